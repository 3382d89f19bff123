"""What the package needs of a driver's own connection, for psycopg 3 and psycopg2.

Nothing here goes through Django's cursors, so that captured queries and assertNumQueries stay as they are. No driver is
imported: a project has one of them, and its connections tell which.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary


class Notice(NamedTuple):
    """A NOTICE or WARNING."""

    message: str
    detail: str
    source: str = ""
    """The function of PostgreSQL's that gave it, which is the same in all languages, where the driver tells."""


# Where the cursors' classes come from that nobody has replaced to see what they run.
_PLAIN = frozenset(["django.db.backends.postgresql.base", "psycopg2.extensions"])
# PQTransactionStatusType: both drivers number it as libpq does.
_IDLE = 0
_IN_TRANSACTION = 2
# psycopg2's notices are texts.
_NOTICE = re.compile(r"\w+:\s+(?P<message>.*?)(?:\nDETAIL:\s+(?P<detail>.*?))?(?:\n(?:HINT|CONTEXT):.*)?\s*", re.DOTALL)
_MOST_NOTICES = 50
# Of psycopg's connections; psycopg2 keeps them itself.
_heard: WeakKeyDictionary[Any, deque[Notice]] = WeakKeyDictionary()


class Driver(Protocol):
    """One driver's way with a connection that it has made."""

    def say(self, settings: str) -> None:
        """Run SET statements; outside a transaction they begin none. Raises the driver's own errors."""
        ...

    def ask(self, statement: str) -> str:
        """The text of the single value that a statement yields; raises the driver's own errors."""
        ...

    def may_follow(self, cursor: Any) -> bool:
        """Whether this cursor sends a statement as one simple Query, in front of which others may stand."""
        ...

    def bound(self, cursor: Any, sql: str, params: Any) -> tuple[str, Any]:
        """The statement and parameters to be run in their stead, if text will be put in front."""
        ...

    def skip(self, cursor: Any, count: int) -> None:
        """Leave out the results of so many statements that stood in front."""
        ...

    def notices(self) -> list[Notice]:
        """What the server has noticed since this was asked last, oldest first."""
        ...

    def parameter(self, name: str) -> str | None:
        """What the server has reported under this name; `None` for nothing, and when the connection is gone."""
        ...

    def is_idle(self) -> bool:
        """Whether no transaction has begun on the server: what is SET now outlives any ROLLBACK."""
        ...

    def is_usable(self) -> bool:
        """Whether SET can succeed: not on a lost connection, nor in a failed transaction, nor amid an answer."""
        ...

    def begin_read_only(self, *, snapshot: bool) -> Callable[[], None]:
        """Let the next transaction begin READ ONLY, and with `snapshot` REPEATABLE READ.

        Returns what undoes that, to be called when the transaction is over.
        """
        ...


class Psycopg:
    """psycopg 3."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        heard = _heard.get(connection)
        if heard is None:
            # Once for a connection, whoever gets it from a pool; the handler must not keep the connection alive.
            heard = _heard[connection] = deque(maxlen=_MOST_NOTICES)
            connection.add_notice_handler(partial(_hear, heard))
        self._heard = heard

    def say(self, settings: str) -> None:
        """By libpq itself: the driver's own cursors begin a transaction where Django has turned autocommit off."""
        self._run(settings)

    def ask(self, statement: str) -> str:
        value: bytes | None = self._run(statement).get_value(0, 0)
        return (value or b"").decode()

    def _run(self, statement: str) -> Any:
        result = self._libpq.exec_(statement.encode())
        if result.error_message:
            errors = sys.modules["psycopg.errors"]
            code: bytes | None = result.error_field(ord("C"))
            kind = errors.lookup(code.decode()) if code else errors.OperationalError
            raise kind(result.error_message.decode(errors="replace").strip())
        return result

    def may_follow(self, cursor: Any) -> bool:
        # Those that bind on the client, outside pipelines. Where autocommit is off, BEGIN would come before.
        return (
            type(cursor).__module__ in _PLAIN
            and hasattr(cursor, "mogrify")
            and not hasattr(cursor, "name")
            and self._connection.autocommit
            and self._libpq.pipeline_status == 0
        )

    def bound(self, cursor: Any, sql: str, params: Any) -> tuple[str, Any]:
        # The driver remembers how it has read a text, but no text that is new each time.
        return (sql, None) if params is None else (cursor.mogrify(sql, params), None)

    def skip(self, cursor: Any, count: int) -> None:
        for _ in range(count):
            cursor.nextset()

    def notices(self) -> list[Notice]:
        heard = self._heard
        return [heard.popleft() for _ in range(len(heard))] if heard else []

    def parameter(self, name: str) -> str | None:
        """libpq has it in memory: a tenth of a microsecond."""
        if self._connection.closed:
            return None
        value: bytes | None = self._libpq.parameter_status(name.encode())
        return None if value is None else value.decode()

    def is_idle(self) -> bool:
        return bool(self._libpq.transaction_status == _IDLE)

    def is_usable(self) -> bool:
        return self._libpq.transaction_status in (_IDLE, _IN_TRANSACTION)

    def begin_read_only(self, *, snapshot: bool) -> Callable[[], None]:
        connection = self._connection
        before = connection.read_only, connection.isolation_level

        def undo() -> None:
            if not connection.closed:
                connection.read_only, connection.isolation_level = before

        connection.read_only = True
        if snapshot:
            connection.isolation_level = sys.modules["psycopg"].IsolationLevel.REPEATABLE_READ
        return undo


class Psycopg2:
    """psycopg2."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._heard: str | None = connection.notices[-1] if connection.notices else None

    def say(self, settings: str) -> None:
        self._run(settings)

    def ask(self, statement: str) -> str:
        ((value,),) = self._run(statement)
        return str(value or "")

    def _run(self, statement: str) -> list[tuple[object, ...]]:
        """Between transactions with autocommit for a moment, which costs nothing: the driver alone knows of it."""
        autocommit = self._connection.autocommit
        if self.is_idle():
            self._connection.autocommit = True
        try:
            # The driver's plain one: an engine may have made another the connection's own, to count what runs.
            plain = sys.modules["psycopg2.extensions"].cursor
            with self._connection.cursor(cursor_factory=plain) as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            if not self._connection.closed and self._connection.autocommit != autocommit:
                self._connection.autocommit = autocommit

    def may_follow(self, cursor: Any) -> bool:
        return type(cursor).__module__ in _PLAIN and cursor.name is None and self._connection.autocommit

    def bound(self, cursor: Any, sql: str, params: Any) -> tuple[str, Any]:
        return sql, params

    def skip(self, cursor: Any, count: int) -> None:
        """The driver itself keeps the last result alone."""

    def notices(self) -> list[Notice]:
        new: list[str] = []
        # The driver keeps the last fifty, for whoever wants them.
        for text in reversed(self._connection.notices):
            if text is self._heard:
                break
            new.append(text)
        if new:
            self._heard = new[0]
        return [_parsed(text) for text in reversed(new)]

    def parameter(self, name: str) -> str | None:
        if self._connection.closed:
            return None
        value: str | None = self._connection.get_parameter_status(name)
        return value

    def is_idle(self) -> bool:
        return bool(self._connection.get_transaction_status() == _IDLE)

    def is_usable(self) -> bool:
        return not self._connection.closed and self._connection.get_transaction_status() in (_IDLE, _IN_TRANSACTION)

    def begin_read_only(self, *, snapshot: bool) -> Callable[[], None]:
        connection = self._connection
        before = connection.readonly, connection.isolation_level

        def undo() -> None:
            if not connection.closed:
                connection.set_session(readonly=before[0] or "default", isolation_level=before[1] or "default")

        connection.set_session(readonly=True, isolation_level="repeatable read" if snapshot else None)
        return undo


def _hear(heard: deque[Notice], diagnostic: Any) -> None:
    # libpq frees the original when this returns.
    said = diagnostic.message_primary, diagnostic.message_detail, diagnostic.source_function
    heard.append(Notice(*(text or "" for text in said)))


def _parsed(text: str) -> Notice:
    match = _NOTICE.fullmatch(text)
    return Notice(match["message"], match["detail"] or "") if match else Notice(text, "")


def of(connection: Any) -> Driver | None:
    """The driver that made this connection, if it is one that speaks PostgreSQL's protocol by libpq."""
    if hasattr(connection, "pgconn"):
        return Psycopg(connection)
    if hasattr(connection, "get_parameter_status"):
        return Psycopg2(connection)
    return None
