"""OpenTelemetry: a span for each statement, which says what server ran it, and why there.

    from django_highwater.telemetry import connect

    connect()  # beside the application; it may be called again

It needs `opentelemetry-api`. Attributes are those of OpenTelemetry's conventions for databases, and `highwater.server`,
`highwater.reason`, `highwater.level` and `highwater.waited` (seconds); what is not known is left out. Nothing is done
where nothing is recorded.
"""

from __future__ import annotations

import re
import sys
from time import time_ns

from django.db import connections
from opentelemetry import trace
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from .connections import Carrier
from .seeing import Listener, Statement, listen

_SYSTEM = "postgresql"
# As it is until the project sets one up, and where it has turned tracing off.
_RECORDS_NOTHING = (ProxyTracerProvider, NoOpTracerProvider)
# A bulk insert, or a list of keys; the beginning tells which.
_LONGEST_TEXT = 4096
_FIRST = re.compile(r"(?:[\s(]|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)
_COMMANDS = frozenset(
    ["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "COPY", "CALL", "DO", "EXPLAIN"]
    + [
        "BEGIN",
        "START",
        "COMMIT",
        "END",
        "ROLLBACK",
        "ABORT",
        "SAVEPOINT",
        "RELEASE",
        "SET",
        "RESET",
        "SHOW",
        "DISCARD",
    ]
    + ["DECLARE", "FETCH", "MOVE", "CLOSE", "PREPARE", "EXECUTE", "DEALLOCATE", "LISTEN", "UNLISTEN", "NOTIFY", "LOCK"]
    + ["CREATE", "ALTER", "DROP", "TRUNCATE", "COMMENT", "SECURITY", "GRANT", "REVOKE", "REASSIGN", "IMPORT", "REFRESH"]
    + ["ANALYZE", "VACUUM", "REINDEX", "CLUSTER", "CHECKPOINT", "LOAD"]
)
# Comments and quoted names, which may have quotes in them, and literals, of which the last may be cut off.
_LITERALS = re.compile(
    r"""(?P<kept>--[^\n]*|/\*.*?\*/|"[^"]*")|'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)|\b\d[\w.]*""",
    re.DOTALL,
)
_Attributes = dict[str, AttributeValue]


def connect(*, spans: bool = True) -> None:
    """Tell OpenTelemetry of all statements of this process. The last call counts.

    Without `spans` the span around the caller gets an event `highwater.statement` for each: for those whose driver is
    instrumented, and makes spans of its own.
    """
    listen(_Spans() if spans else _Events(), instead_of=_Tracing)


class _Tracing(Listener):
    """Either of the two."""


class _Spans(_Tracing):
    def __init__(self) -> None:
        self._tracer = trace.get_tracer("django_highwater")

    def is_listening(self) -> bool:
        return not isinstance(trace.get_tracer_provider(), _RECORDS_NOTHING)

    def append(self, statement: Statement, /) -> None:
        end = time_ns()
        command = _command(statement.sql)
        attributes = {**_of_database(statement, command), **_of_route(statement)}
        start = end - round(statement.seconds * 1e9)
        span = self._tracer.start_span(
            command or _SYSTEM, kind=SpanKind.CLIENT, attributes=attributes, start_time=start
        )
        if span.is_recording():
            error = _error()
            if error is not None:
                _fail(span, error)
            span.end(end)


class _Events(_Tracing):
    def is_listening(self) -> bool:
        return trace.get_current_span().is_recording()

    def append(self, statement: Statement, /) -> None:
        attributes = {"db.query.summary": _command(statement.sql) or _SYSTEM, **_of_route(statement)}
        trace.get_current_span().add_event("highwater.statement", attributes)


def _of_route(statement: Statement) -> _Attributes:
    values = {
        "highwater.server": statement.server,
        "highwater.reason": statement.reason,
        "highwater.level": statement.level,
        "highwater.waited": statement.waited,
    }
    return {name: value for name, value in values.items() if value is not None}


def _of_database(statement: Statement, command: str) -> _Attributes:
    place = connections[statement.alias].settings_dict
    # Without the choice of servers.
    known = {"db.namespace": str(place["NAME"] or "").partition("@")[0], "server.address": str(place["HOST"] or "")}
    attributes: _Attributes = {"db.system.name": _SYSTEM, **{name: value for name, value in known.items() if value}}
    if str(place["PORT"]).isdecimal():
        attributes["server.port"] = int(place["PORT"])
    if command:
        attributes["db.query.summary"] = command
        attributes["db.query.text"] = _text(statement.sql)
    return attributes


def _command(sql: str) -> str:
    """The statement's first word; empty for what is no text of SQL, such as a driver's own object."""
    first = _FIRST.match(sql)
    word = first[1].upper() if first else ""
    return word if word in _COMMANDS else ""


def _text(sql: str) -> str:
    """A statement without the values of literals; the places of parameters stay."""
    text = sql[:_LONGEST_TEXT]
    if "\\" in text:
        # Where such a literal ends depends on settings.
        text = text.partition("'")[0]
    return _LITERALS.sub(lambda found: found["kept"] or "?", text)


def _error() -> BaseException | None:
    """What the statement has failed with: what comes by here, and not what the caller is dealing with."""
    error = sys.exception()
    if error is None or error.__traceback__ is None:
        return None
    return error if error.__traceback__.tb_frame.f_code is Carrier.__call__.__code__ else None


def _fail(span: Span, error: BaseException) -> None:
    # The driver's own, of which Django's is made; texts may hold values.
    driven = error.__cause__ or error
    code: str | None = getattr(driven, "sqlstate", None) or getattr(driven, "pgcode", None)
    if code:
        span.set_attribute("db.response.status_code", code)
    span.set_attribute("error.type", code or f"{type(error).__module__}.{type(error).__qualname__}")
    span.set_status(StatusCode.ERROR)
