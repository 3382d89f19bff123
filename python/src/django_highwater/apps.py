"""What happens when Django starts."""

from __future__ import annotations

from django.apps import AppConfig
from django.db import connections
from django.db.backends.signals import connection_created


class HighwaterConfig(AppConfig):
    """Puts the package onto every connection, and its checks into `manage.py check`."""

    name = "django_highwater"
    verbose_name = "Highwater"

    def ready(self) -> None:
        """Connections that are open already are taken along."""
        from . import checks, pins
        from .connections import install

        pins.collect()
        checks.register_all()
        connection_created.connect(install, dispatch_uid="django_highwater")
        for connection in connections.all(initialized_only=True):
            if connection.connection is not None:
                install(connection=connection)
