"""For projects that keep several aliases: a router that cannot show or do what the article's could.

With one alias no router is needed: Highwater chooses the server for each statement.
"""

from __future__ import annotations

from typing import Any

from django.db import models

from .aliases import pool_of, primary_of


class HighwaterRouter:
    """To a replica goes only what is asked for there, by `using("replica")` or for an object that came from it."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        """No opinion: what belongs to an object from a replica is read there, all else at the default."""
        return None

    def db_for_write(self, model: type[models.Model], **hints: Any) -> str | None:
        """Never a replica, also not for an object that came from one."""
        instance = hints.get("instance")
        alias: str | None = instance._state.db if isinstance(instance, models.Model) else None
        return primary_of(alias) if alias else None

    def allow_relation(self, one: models.Model, other: models.Model, **hints: Any) -> bool | None:
        """Objects of one database may be linked, whichever replicas they came from."""
        aliases = [instance._state.db for instance in (one, other)]
        if None in aliases:
            return None
        return True if len({pool_of(str(alias)) for alias in aliases}) == 1 else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Tables are made on the primary alone; replicas get them by replication."""
        return False if primary_of(db) else None
