"""What a scenario asks of a connection, whatever the driver.

Statements mark parameters with `%s`. Connections are in autocommit mode, as psql and asyncpg are anyway. Values come
back as Python values; psql's text becomes a number where it looks like one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple


class SqlError(Exception):
    """An error of the server or the proxy, the same for all drivers."""

    def __init__(self, sqlstate: str, message: str, detail: str = "") -> None:
        super().__init__(f"{sqlstate}: {message} {detail}".rstrip())
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail


def numbered(sql: str, params: tuple[Any, ...]) -> str:
    """The statement with `$1`, `$2` ... for its marks, as most drivers want it."""
    numbers = count(1)
    pieces = sql.split("%s") if params else [sql]
    return pieces[0] + "".join(f"${next(numbers)}{piece}" for piece in pieces[1:])


class Route(NamedTuple):
    """Where the last statement ran, and why."""

    server: str
    reason: str


# For tests that expect a standby to serve: on a busy machine it needs a moment to say that it has caught up, and the
# primary would help out meanwhile.
PATIENT = {"highwater.wait_budget": "10s"}


@dataclass(frozen=True)
class Target:
    """Where and as whom to connect, and settings to bring along at start-up."""

    port: int
    database: str = "shop"
    user: str = "app"
    password: str = "app"
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def options(self) -> str:
        """The settings as libpq's `options`."""
        return " ".join(f"-c {name}={value}" for name, value in self.settings.items())


class Connection(ABC):
    """A connection through some driver."""

    def __init__(self) -> None:
        # Warnings and notices, as "SQLSTATE message".
        self.notices: list[str] = []

    @abstractmethod
    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""

    def run(self, sql: str, *params: Any) -> None:
        """Run a statement for its effect."""
        self.rows(sql, *params)

    def value(self, sql: str, *params: Any) -> Any:
        """The single value that a statement yields."""
        return self.rows(sql, *params)[0][0]

    def route(self) -> Route:
        """Where the last statement ran, and why."""
        # A third word says how long it waited.
        return Route(*str(self.value("SHOW highwater.last_route")).split()[:2])

    def server(self) -> str:
        """Where the last statement ran."""
        return self.route().server

    def token(self) -> str:
        """How far this session must see, as text to carry elsewhere."""
        return str(self.value("SHOW highwater.token"))
