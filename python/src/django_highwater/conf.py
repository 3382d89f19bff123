"""The settings: one dictionary, HIGHWATER, in which everything may be left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.utils.module_loading import import_string

from .levels import LEVELS, Level, Wish


@dataclass(frozen=True)
class Configuration:
    """What HIGHWATER says; README.md has the table."""

    COOKIE: str | None = "highwater"
    """Name of the signed cookie that carries a browser's position; `None`: no cookie."""

    HEADER: str | None = "Highwater-Token"
    """Name of the header, of requests and responses, that carries an API client's position; `None`: no header."""

    MAX_AGE: int = 300
    """Seconds after which a position is forgotten. Reads are strong then, so that only their cost changes."""

    KEY: str | None = None
    """Dotted path of a function from a request to the text that names its user on all devices, or to `None`."""

    CONSISTENCY: Level | None = None
    """Level of requests that bring no position; `None`: as Highwater is configured, which is "strong" by default.

    Looser than "session", it is "session" from a request's own first write on.
    """

    def __post_init__(self) -> None:
        """Complain about values that mean nothing."""
        if self.CONSISTENCY is not None and self.CONSISTENCY not in LEVELS:
            takes = ", ".join(LEVELS)
            raise ImproperlyConfigured(f"HIGHWATER['CONSISTENCY'] is {self.CONSISTENCY!r}; it takes {takes}")
        if not self.MAX_AGE > 0:
            raise ImproperlyConfigured("HIGHWATER['MAX_AGE'] is a positive number of seconds")

    @property
    def wish(self) -> Wish | None:
        """The level of requests that bring no position."""
        return Wish(self.CONSISTENCY) if self.CONSISTENCY else None

    def key_of(self, request: HttpRequest) -> str | None:
        """Who makes this request, where the project says so."""
        key = _imported(self.KEY)(request) if self.KEY else None
        # User 0 is somebody.
        return None if key is None else str(key)


@cache
def _imported(path: str) -> Callable[[HttpRequest], object]:
    try:
        function = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(f"HIGHWATER['KEY'] names {path!r}: {error}") from error
    if not callable(function):
        raise ImproperlyConfigured(f"HIGHWATER['KEY'] names {path!r}, which is no function")
    return function  # type: ignore[no-any-return]


@cache
def configuration() -> Configuration:
    """What the project's settings say. Raises `ImproperlyConfigured`."""
    said: object = getattr(settings, "HIGHWATER", {})
    if not isinstance(said, Mapping):
        raise ImproperlyConfigured("HIGHWATER is a dictionary")
    said = cast("Mapping[str, Any]", said)
    if not isinstance(said.get("MAX_AGE", 1), int):
        raise ImproperlyConfigured("HIGHWATER['MAX_AGE'] is a positive number of seconds")
    known = [field.name for field in fields(Configuration)]
    unknown = [str(name) for name in said if name not in known]
    if unknown:
        raise ImproperlyConfigured(f"HIGHWATER has no {', '.join(unknown)}; it has {', '.join(known)}")
    return Configuration(**said)


def _forget(*, setting: str, **_kwargs: object) -> None:
    if setting == "HIGHWATER":
        configuration.cache_clear()
        _imported.cache_clear()


setting_changed.connect(_forget)
