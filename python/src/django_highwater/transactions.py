"""Transactions that only read, and waiting until standbys show a commit."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Literal

from django.db import DEFAULT_DB_ALIAS, NotSupportedError, connections, transaction

from .connections import connected


@contextmanager
def read_only(*, using: str = DEFAULT_DB_ALIAS, snapshot: bool = True) -> Generator[None]:
    """A transaction that only reads: `atomic`, begun READ ONLY, so that a standby can run all of it.

    With `snapshot` (REPEATABLE READ) all its statements see one and the same state. Writing in it fails. A context
    manager and a decorator. In Django's TestCase, which holds everything in one transaction, it is a savepoint, and
    read-only too.

    Raises `RuntimeError` within another transaction, which has begun otherwise, and `NotSupportedError` for databases
    other than PostgreSQL.
    """
    driver = connected(using).driver
    if driver is None:
        raise NotSupportedError("read_only() needs psycopg or psycopg2")
    connection = connections[using]
    with ExitStack() as stack:
        undo: list[Callable[[], None]] = []
        # What the driver was told is taken back when the transaction is over.
        stack.callback(lambda: [restore() for restore in undo])
        stack.enter_context(transaction.atomic(using=using, durable=True))
        if driver.is_idle():
            undo.append(driver.begin_read_only(snapshot=snapshot))
        else:
            with connection.wrap_database_errors:
                driver.say("SET TRANSACTION READ ONLY")
        yield


def wait_for_replicas(
    count: int | Literal["all"] = "all", *, timeout: float = 1.0, using: str = DEFAULT_DB_ALIAS
) -> tuple[str, ...]:
    """Wait until so many standbys show everything that is committed now; returns those that do not when time is up.

    For what reads past Highwater: whoever reads through it sees his own writes without waiting. Each entry names a
    standby and how far it is behind. An empty tuple: all that was wanted is there. The commit has happened in any case.
    On plain PostgreSQL nothing is known of standbys, and the tuple is empty.

    Call it after COMMIT. Raises `TransactionManagementError` in a transaction, whose changes no standby can show.
    """
    carrier = connected(using)
    connection = connections[using]
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("no standby can show what is not committed")
    if carrier.driver is None or not carrier.leads_to_highwater():
        return ()
    hints = f"/* highwater.wait_for_standbys='{count}' highwater.standbys_timeout='{round(timeout * 1000)}ms' */"
    carrier.notices()
    with connection.wrap_database_errors:
        # Something that may write, for a plain read waits for nothing.
        carrier.driver.say(f"{hints} DO 'BEGIN END'")
    return tuple(name.strip() for notice in carrier.notices() for name in _missing(notice.detail))


def _missing(detail: str) -> list[str]:
    """The standbys in "Missing: standby1 (4096 bytes behind), standby2 (not known)."""
    head, _, names = detail.partition("Missing: ")
    return names.rstrip(".").split(",") if names and not head else []
