"""What became of each statement: for tests, the debug toolbar, `Server-Timing` and logs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# Highwater's reasons for the primary.
_ON_PRIMARY = frozenset(
    ["write", "must_run_on_primary", "primary_asked", "no_healthy_standby", "standbys_too_far_behind", "budget_spent"]
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement, and what Highwater said of it; the last three are `None` on plain PostgreSQL."""

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

    @property
    def is_on_primary(self) -> bool:
        """Whether it ran on the primary: the reason tells, for servers have names of their own."""
        return self.server is not None and self.reason in _ON_PRIMARY


# A list for each block, shared with the threads that the block's code uses.
_recorders: ContextVar[tuple[list[Statement], ...]] = ContextVar("django_highwater_recorders", default=())


def recorders() -> tuple[list[Statement], ...]:
    """Who wants to know of statements that the caller runs."""
    return _recorders.get()


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
