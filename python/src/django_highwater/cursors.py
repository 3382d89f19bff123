"""What Django's cursors hand on to the driver without asking any execute wrapper: `callproc`, COPY, `stream`.

Unheard, such a statement would run for whomever the connection was told about last, and nobody would note what it
wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper

# An execute wrapper, and what makes cursors, as Django calls them.
_Wrapper = Callable[..., Any]
_Make = Callable[[Any], Any]

PAST_EXECUTE = "highwater_past_execute"
"""Of an execute wrapper's context: what runs is no `execute`, and its text cannot be changed."""

# `copy` and `stream` are psycopg 3's, the last three psycopg2's.
_PAST_WRAPPERS = frozenset(["callproc", "copy", "stream", "copy_expert", "copy_from", "copy_to"])


def hear_cursors_of(connection: BaseDatabaseWrapper, wrapper: _Wrapper) -> None:
    """From now on these methods of the connection's cursors go through `wrapper` as well."""
    own = cast("Any", connection)
    own.make_cursor = _heard(own.make_cursor, wrapper)
    own.make_debug_cursor = _heard(own.make_debug_cursor, wrapper)


def _heard(make: _Make, wrapper: _Wrapper) -> _Make:
    def made(cursor: Any) -> Any:
        own = make(cursor)
        # Of whatever class an engine, or another package, has made it.
        own.__class__ = _class_of(cast("type[object]", type(own)))  # type: ignore[arg-type]  # classes are hashable
        own._highwater = wrapper
        return own

    return made


@cache
def _class_of(base: type[object]) -> type[object]:
    if issubclass(base, _Heard):
        return base
    heard = type(base.__name__, (_Heard, base), {"__module__": base.__module__})
    for name in _PAST_WRAPPERS.intersection(dir(base)):
        setattr(heard, name, _method(heard, name))
    return heard


def _method(heard: type[object], name: str) -> Callable[..., Any]:
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._through(name, getattr(cast("Any", super(heard, self)), name))(*args, **kwargs)

    return called


class _Heard:
    """Before one of Django's cursors."""

    db: Any
    _highwater: _Wrapper

    def __getattr__(self, name: str) -> Any:
        found = cast("Any", super()).__getattr__(name)
        return self._through(name, found) if name in _PAST_WRAPPERS else found

    def _through(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            def execute(*_: object) -> Any:
                return call(*args, **kwargs)

            context = {"connection": self.db, "cursor": self, PAST_EXECUTE: True}
            return self._highwater(execute, _statement(name, [*args, *kwargs.values()]), None, False, context)

        return called


def _statement(name: str, given: list[Any]) -> Any:
    """What is about to run, by the method's arguments."""
    match name, given:
        case "callproc", [function, *_]:
            return f"SELECT * FROM {function}()"
        case "copy_from", [_, table, *_]:
            return f"COPY {table} FROM STDIN"
        case "copy_to", [_, table, *_]:
            return f"COPY {table} TO STDOUT"
        case _, [statement, *_]:
            return statement
        case _:
            # The driver will complain.
            return None
