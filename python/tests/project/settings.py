"""One alias that leads to Highwater; and those of the article, which lead to the servers: a primary, two replicas."""

import os


def _database(port: str, user: str = "app") -> dict[str, object]:
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "HOST": "127.0.0.1",
        "PORT": os.environ[port],
        "USER": user,
        "PASSWORD": "app",
        "CONN_MAX_AGE": None,
    }


SECRET_KEY = "for tests alone"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
STATIC_URL = "static/"
ROOT_URLCONF = "project.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_highwater",
    "project",
]
MIDDLEWARE = [
    "django_highwater.middleware.HighwaterMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
_PORTS = {"default": "PROXY_PORT", "direct": "PRIMARY_PORT", "replica1": "REPLICA1_PORT", "replica2": "REPLICA2_PORT"}
# The site's own tests have the one alias that a site has.
DATABASES = {alias: _database(port) for alias, port in _PORTS.items() if port in os.environ}
DATABASE_ROUTERS: list[str] = []
