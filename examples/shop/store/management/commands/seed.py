"""`manage.py seed`: products, and people whose password is "secret"."""

from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand

from ...models import Product

PRODUCTS = {
    "Lightsaber": 49_900,
    "Hoverboard": 29_900,
    "Time machine": 9_999_900,
    "Towel": 990,
    "Sonic screwdriver": 3_900,
}


class Command(BaseCommand):
    """Makes what is missing."""

    help = "Makes products, and the users ann, bob and admin, whose password is secret."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Run it as often as you like."""
        for name, cents in PRODUCTS.items():
            Product.objects.get_or_create(name=name, defaults={"cents": cents})
        for name in ("ann", "bob", "admin"):
            if not User.objects.filter(username=name).exists():
                make = User.objects.create_superuser if name == "admin" else User.objects.create_user
                make(name, f"{name}@example.com", "secret")
