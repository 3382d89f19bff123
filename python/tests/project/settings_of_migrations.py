"""The site on another database."""

from .settings import *  # noqa: F403
from .settings import DATABASES

DATABASES["default"]["NAME"] = "shop_of_migrations"
