"""Tables whose reads promise at least a certain level: models that say `highwater_consistency = "primary"`.

It is the table that counts, wherever it turns up in a statement: in joins, related managers, the admin, raw SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from .levels import Wish, stricter

# Others would ask for less than what holds where nothing is said. That is said where it is wanted, not for a table.
_LEVELS = ("strong", "primary")


@dataclass(frozen=True)
class _Pins:
    pattern: re.Pattern[str]
    wishes: dict[str, Wish]
    strictest: Wish | None


_pins: _Pins | None = None


def collect() -> None:
    """Note what the project's models say. Raises `ImproperlyConfigured`."""
    global _pins
    wishes: dict[str, Wish] = {}
    for model in apps.get_models(include_auto_created=True):
        # A proxy model has the table of another one: its manager can ask for a level, its table is not its own.
        level = None if model._meta.proxy else getattr(model, "highwater_consistency", None)
        if level is not None:
            if level not in _LEVELS:
                name = f"{model._meta.label}.highwater_consistency"
                raise ImproperlyConfigured(f"{name} is {level!r}; it takes {' and '.join(_LEVELS)}")
            wishes[_plain(model._meta.db_table)] = Wish(level)
    # Between schema and table there may be quotes or not.
    names = "|".join(re.escape(name).replace(r"\.", r'"?\."?') for name in sorted(wishes, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w$])(?:{names})(?![\w$])", re.IGNORECASE)
    _pins = _Pins(pattern, wishes, reduce(stricter, wishes.values(), None)) if wishes else None


def wish(statement: object) -> Wish | None:
    """The strictest level that a table named in this statement asks for."""
    if _pins is None:
        return None
    if not isinstance(statement, str):
        # A driver's own object, whose text only the driver knows.
        return _pins.strictest
    found: Wish | None = None
    for match in _pins.pattern.finditer(statement):
        found = stricter(found, _pins.wishes[_plain(match[0])])
    return found


def _plain(name: str) -> str:
    """Without quotes, and as PostgreSQL folds what has none: too many names meet, and none is missed."""
    return name.replace('"', "").lower()
