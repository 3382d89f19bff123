"""The admin, as everybody has it."""

from django.contrib import admin

from .models import Balance, Wish

admin.site.register(Wish)


@admin.register(Balance)
class BalanceAdmin(admin.ModelAdmin):
    """What nobody wants to see late, with what it belongs to."""

    list_display = ("wish", "cents")
    list_select_related = ("wish",)
