"""Django's test suite on PostgreSQL, wherever `$HIGHWATER_SUITE_PORT` leads."""

import os
from typing import Any


def _database(name: str) -> dict[str, Any]:
    return {
        "ENGINE": os.environ["HIGHWATER_SUITE_ENGINE"],
        "NAME": name,
        "HOST": "127.0.0.1",
        "PORT": os.environ["HIGHWATER_SUITE_PORT"],
        "USER": os.environ["HIGHWATER_SUITE_USER"],
        "PASSWORD": os.environ["HIGHWATER_SUITE_PASSWORD"],
        "OPTIONS": {"server_side_binding": os.environ["HIGHWATER_SUITE_BINDING"] == "server"},
    }


DATABASES = {"default": _database("django"), "other": _database("django_other")}
TEST_RUNNER = "django_runner.Recorder"

# As in Django's own settings for its tests.
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
