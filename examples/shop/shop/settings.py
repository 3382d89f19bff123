"""The shop's settings. Ports come from the environment, because the cluster is made for the occasion."""

import os
from pathlib import Path
from typing import Any


def _database(port: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "HOST": "127.0.0.1",
        "PORT": port,
        "USER": "app",
        "PASSWORD": "app",
    }


BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = "the shop is an example; its key protects nothing"
DEBUG = os.environ.get("SHOP_DEBUG", "") == "1"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_highwater",
    "store",
]
MIDDLEWARE = [
    "django_highwater.middleware.HighwaterMiddleware",
    # For the comparison, and for the foot of the page.
    "store.switch.SwitchMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
DATABASES = {"default": _database(os.environ.get("SHOP_PORT", "6432"))}
# The article's aliases lead to the servers themselves. With Highwater nobody needs them.
for _alias in ("primary", "replica1", "replica2"):
    if f"SHOP_{_alias.upper()}_PORT" in os.environ:
        DATABASES[_alias] = _database(os.environ[f"SHOP_{_alias.upper()}_PORT"])
DATABASE_ROUTERS = ["store.switch.SwitchRouter"] if "replica1" in DATABASES else []
TASKS = {"default": {"BACKEND": "store.jobs.ThreadBackend"}}
ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "store.switch.controls",
            ]
        },
    }
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
# The folder of the cluster, for the lag sliders; without it there are none.
LAB = os.environ.get("SHOP_LAB")
HIGHWATER_PROGRAM = os.environ.get("HIGHWATER_BIN", "highwater")
