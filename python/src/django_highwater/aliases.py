"""Which of a project's aliases are one database, and which of those are replicas of it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS


def _database(alias: str) -> dict[str, Any]:
    database: dict[str, Any] = settings.DATABASES.get(alias, {})
    return database


def _name(alias: str) -> str:
    """Without the choice of servers."""
    return str(_database(alias).get("NAME", "")).partition("@")[0]


def _address(alias: str) -> tuple[str, ...]:
    database = _database(alias)
    options: dict[str, Any] = database.get("OPTIONS") or {}
    own = (str(database.get(name, "")) for name in ("HOST", "PORT"))
    return *own, *(str(options.get(name, "")) for name in ("service", "host", "hostaddr", "port"))


def place_of(alias: str) -> str:
    """The first alias that has the same address: behind one address there is one log, whatever the database."""
    names = [DEFAULT_DB_ALIAS, *settings.DATABASES]
    return next((name for name in names if _address(name) == _address(alias)), alias)


def has_several_addresses(alias: str) -> bool:
    """Whether whoever connects takes the first address that answers, so that the next connection may lead elsewhere."""
    return any("," in part for part in _address(alias))


def places_of(alias: str) -> frozenset[str]:
    """The places at which there is a database of this name, as far as anybody can tell the same one."""
    name = _name(alias)
    return frozenset(place_of(other) for other in settings.DATABASES if _name(other) == name)


def primary_of(alias: str) -> str | None:
    """The alias that `alias` is a replica of; `None`: it is none.

    A replica is what TEST's MIRROR names the original of, as for all of Django; or, at the same address, a database of
    the same name with a choice of servers behind it: `shop@replica` beside `shop`.
    """
    test: dict[str, Any] = _database(alias).get("TEST") or {}
    mirrored = test.get("MIRROR")
    if mirrored:
        return str(mirrored)
    name = _name(alias)
    if _database(alias).get("NAME") == name:
        return None
    return next(
        (
            other
            for other in settings.DATABASES
            if other != alias and _address(other) == _address(alias) and _database(other).get("NAME") == name
        ),
        None,
    )


def pool_of(alias: str) -> str:
    """The alias that stands for the database of `alias` and all its replicas: the one that is written to."""
    return primary_of(alias) or alias
