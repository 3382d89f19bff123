"""Tables whose reads promise at least a certain level: models that say `highwater_consistency = "primary"`.

It is the table that counts, wherever it turns up in a statement: in joins, related managers, the admin, raw SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from .levels import Wish, stricter

# Others would ask for less than what holds where nothing is said. That is said where it is wanted, not for a table.
_LEVELS = ("strong", "primary")


@dataclass(frozen=True)
class _Pins:
    pattern: re.Pattern[str]
    wishes: dict[str, Wish]


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
            wishes[model._meta.db_table.strip('"')] = Wish(level)
    names = "|".join(map(re.escape, sorted(wishes, key=len, reverse=True)))
    _pins = _Pins(re.compile(rf"(?<![\w$])(?:{names})(?![\w$])"), wishes) if wishes else None


def wish(statement: object) -> Wish | None:
    """The strictest level that a table named in this statement asks for."""
    if _pins is None or not isinstance(statement, str):
        return None
    found: Wish | None = None
    for match in _pins.pattern.finditer(statement):
        found = stricter(found, _pins.wishes[match[0]])
    return found
