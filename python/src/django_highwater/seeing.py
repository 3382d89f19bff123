"""What became of each statement: for tests, the debug toolbar, `Server-Timing`, logs and traces."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

ON_PRIMARY = frozenset(
    ["write", "must_run_on_primary", "primary_asked", "no_healthy_standby", "standbys_too_far_behind", "budget_spent"]
)
"""Highwater's reasons for the primary."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, and what Highwater said of it; those from `server` on say nothing on plain PostgreSQL."""

    alias: str
    sql: str
    seconds: float
    """How long it took, waiting for a standby included."""
    level: str | None
    """The level that was asked for; `None`: what Highwater is configured for."""
    server: str | None
    """The name of the server that ran it."""
    reason: str | None
    """Why there, in Highwater's words."""
    waited: float | None
    """How many of the seconds it waited until it could run there."""
    floor: str | None = None
    """The position, as PostgreSQL writes it, that it had to see; `None`: any would do."""
    applied: str | None = None
    """The position that its standby was known to show."""
    retries: int = 0
    """How often it had run in vain on other standbys."""

    @property
    def is_on_primary(self) -> bool:
        """Whether it ran on the primary: the reason tells, for servers have names of their own."""
        return self.server is not None and self.reason in ON_PRIMARY


class Recorder(Protocol):
    """Whoever is told of statements, in the thread and the context of the code that ran them."""

    def append(self, statement: Statement, /) -> None:
        """A statement has run, or has failed."""
        ...


class Listener(Recorder, Protocol):
    """One that is told of all statements of this process."""

    def is_listening(self) -> bool:
        """Whether it wants to know of the statement that the caller is about to run; asked for each one."""
        ...


# A list for each block, shared with the threads that the block's code uses.
_recorders: ContextVar[tuple[list[Statement], ...]] = ContextVar("django_highwater_recorders", default=())
_listeners: tuple[Listener, ...] = ()


def recorders() -> tuple[Recorder, ...]:
    """Who wants to know of statements that the caller runs."""
    own = _recorders.get()
    return (*own, *(one for one in _listeners if one.is_listening())) if _listeners else own


def are_details_wanted() -> bool:
    """Whether somebody looks at each statement, for whom Highwater may do a little more."""
    return bool(_recorders.get())


def listen(listener: Listener, *, instead_of: type[object]) -> None:
    """From now on `listener` is told of all statements, and no other one of that type."""
    global _listeners
    _listeners = (*(one for one in _listeners if not isinstance(one, instead_of)), listener)


@contextmanager
def recorded() -> Generator[list[Statement]]:
    """The list of the statements that the block runs, on all connections that lead to PostgreSQL, in their order."""
    statements: list[Statement] = []
    begin(statements)
    try:
        yield statements
    finally:
        end(statements)


def begin(statements: list[Statement]) -> None:
    """From now on the caller's statements go to this list as well."""
    _recorders.set((*_recorders.get(), statements))


def end(statements: list[Statement]) -> None:
    """Not any more."""
    _recorders.set(tuple(other for other in _recorders.get() if other is not statements))
