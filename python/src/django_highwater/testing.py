"""For a project's tests: where statements ran, and what would have been stale if replicas had been late.

None of it needs replicas but `assert_routes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, cast
from weakref import WeakSet

from django.db import DEFAULT_DB_ALIAS, connections

from .aliases import place_of, pool_of, primary_of
from .connections import asked_for, connected
from .driver import Driver
from .seeing import recorded
from .session import Session, current
from .statements import may_write

_WRITTEN = re.compile(
    r'\b(?:insert\s+into|update(?:\s+only)?|delete\s+from|merge\s+into|truncate(?:\s+table)?)\s+([\w."]+)', re.I
)
_NAMED = re.compile(r'"?([\w$]+)"?')
_Execute = Callable[..., Any]


class StaleRead(AssertionError):
    """A read that would have shown the past if replicas had been late."""


@contextmanager
def assert_routes(*, primary: int | None = None, replica: int | None = None) -> Generator[None]:
    """The block runs so many statements on the primary, and so many on replicas; `None`: however many.

    Raises `AssertionError`, with all statements and the reason of each. Statements in a transaction run on the primary,
    so all do in Django's TestCase; TransactionTestCase is for this.
    """
    with recorded() as statements:
        yield
    routed = [statement for statement in statements if statement.server]
    on_primary = sum(statement.is_on_primary for statement in routed)
    found = on_primary, len(routed) - on_primary
    wanted = found[0] if primary is None else primary, found[1] if replica is None else replica
    if found != wanted or len(routed) < len(statements):
        told = "\n".join(f"{one.server or 'no Highwater'} {one.reason or ''}: {one.sql}" for one in statements)
        raise AssertionError(
            f"{found[0]} statements on the primary and {found[1]} on replicas, not {wanted[0]} and {wanted[1]}:\n{told}"
        )


class RoutesMixin:
    """For test cases: `with self.assertRoutes(primary=1, replica=3)`."""

    assertRoutes = staticmethod(assert_routes)  # noqa: N815  (as unittest names things)


@contextmanager
def joined_replicas() -> Generator[None]:
    """In this block, and in this thread, aliases of replicas use the connection of the alias that they are replicas of.

    So `using("replica")` sees what Django's TestCase has written, whose transaction no other connection can see. For
    tests whose `databases` name both. Enter it when the test databases are there.
    """
    apart = {alias: connections[alias] for alias in connections if primary_of(alias)}
    try:
        for alias in apart:
            connections[alias] = cast("Any", _Joined(connections[pool_of(alias)]))
        yield
    finally:
        for alias, connection in apart.items():
            connections[alias] = connection


class JoinedReplicasMixin:
    """For test cases, before Django's class: `joined_replicas()` while the class runs."""

    @classmethod
    def setUpClass(cls) -> None:
        """Before the transaction begins."""
        own = cast("Any", cls)
        own.enterClassContext(joined_replicas())
        cast("Any", super()).setUpClass()


# What a test case replaces on connections that it may not use, and puts back: no alias must be refused for another.
_REPLACED = frozenset(["connect", "temporary_connection", "cursor", "chunked_cursor"])


class _Joined:
    """One of Django's connections, for another alias."""

    def __init__(self, connection: Any) -> None:
        self.__dict__["_connection"] = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _REPLACED and name in self.__dict__:
            # It is put back, and what that was may by then be what stands in front of the other alias.
            del self.__dict__[name]
        elif name in _REPLACED:
            self.__dict__[name] = value
        else:
            setattr(self._connection, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._connection, name)


@contextmanager
def strict() -> Generator[None]:
    """In this block a read that would be stale if replicas had got nothing since its beginning raises `StaleRead`.

    That is a read at `eventual` or `bounded`, or at `session` by a session without a position, of a table that was
    written in this block. Tables are known by the statements' words. Works in every kind of test case, with and without
    replicas.
    """
    written: set[str] = set()
    late = _Late()

    def watch(execute: _Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        text = str(sql)
        if may_write(sql):
            late.on_write()
            written.update(_plain(name) for name in _WRITTEN.findall(text))
        elif late.may_be(context["connection"].alias, sql):
            tables = ", ".join(sorted(written & set(_NAMED.findall(text))))
            if tables:
                raise StaleRead(f"{tables} was written, and is read where it may not have arrived: {text}")
        return execute(sql, params, many, context)

    with _wrapped(list(connections), watch):
        yield


@contextmanager
def simulated_lag(*, using: str = DEFAULT_DB_ALIAS) -> Generator[None]:
    """In this block reads that may be late see the state at its beginning, as if no replica had got anything since.

    Reads that must not be late see the present. It takes PostgreSQL alone, no replica: the old state is an exported
    MVCC snapshot. Reads within transactions are left alone, so it is for TransactionTestCase.
    """
    holder, late = connections[using].copy(), _Late()
    try:
        holder.ensure_connection()
        with holder.cursor() as cursor:
            # On the primary, where the statements that import it will run; on plain PostgreSQL it means nothing.
            cursor.execute("SET highwater.consistency = 'primary'")
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT pg_export_snapshot()")
            (snapshot,) = cursor.fetchone() or ("",)
        # Opened now, so that the package's own wrapper comes first, which says what holds for the statement.
        driver = connected(using).driver
        begin = f"BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '{snapshot}'"

        def travel(execute: _Execute, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
            if may_write(sql):
                late.on_write()
            elif driver is not None and context["connection"].get_autocommit() and late.may_be(using, sql):
                return as_it_was(driver, lambda: execute(sql, params, many, context))
            return execute(sql, params, many, context)

        def as_it_was(driver: Driver, read: Callable[[], Any]) -> Any:
            driver.say(begin)
            try:
                return read()
            finally:
                driver.say("COMMIT")

        with _wrapped([using], travel):
            yield
    finally:
        holder.close()


@contextmanager
def _wrapped(aliases: list[str], wrapper: _Execute) -> Generator[None]:
    with ExitStack() as stack:
        for alias in aliases:
            if connections[alias].vendor == "postgresql":
                stack.enter_context(connections[alias].execute_wrapper(wrapper))
        yield


class _Late:
    """Which reads may be late, and which sessions have written."""

    def __init__(self) -> None:
        self._writers: WeakSet[Session] = WeakSet()

    def on_write(self) -> None:
        session = current()
        if session is not None:
            self._writers.add(session)

    def may_be(self, alias: str, sql: object) -> bool:
        wish, session = asked_for(alias, sql), current()
        if wish is None or wish.level in ("strong", "primary"):
            return False
        is_ahead = session is not None and (session in self._writers or bool(session.tokens(place_of(alias))))
        return wish.level != "session" or not is_ahead


def _plain(name: str) -> str:
    return name.rpartition(".")[2].strip('"')
