"""The admin."""

from django.contrib import admin

from .models import Message, Product, Wish

admin.site.register([Product, Wish, Message])
