"""The admin, as everybody has it."""

from django.contrib import admin

from .models import Wish

admin.site.register(Wish)
