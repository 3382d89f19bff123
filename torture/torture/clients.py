"""Connections of the workload: drivers by which clients speak, and what each of them must be able to do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import asyncpg
import psycopg

LOST = "the cluster has failed over, and what this session wrote or saw may be lost"
REFUSED = "highwater.token ignored"
# Connecting waits for the primary at most as long as a statement does.
CONNECT_SECONDS = 15


class Refused(Exception):
    """The statement has not been carried out; the connection goes on."""


class Broken(Exception):
    """The connection is gone, and with it the outcome of what ran."""


@dataclass(frozen=True)
class Address:
    """Where and as whom to connect."""

    port: int
    settings: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    user: str = "app"
    password: str = "app"
    database: str = "shop"


class Link(Protocol):
    """One connection."""

    # A loss has been told; a token has been refused.
    told: bool
    refused: bool

    async def run(self, sql: str, *params: Any) -> None:
        """Run a statement for its effect."""

    async def value(self, sql: str, *params: Any) -> Any:
        """Run a statement for its one value; parameters are written $1."""

    def drop(self) -> None:
        """Cut it off."""


class Extended:
    """asyncpg: prepared statements, and SET and COMMIT as simple queries."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.told = self.refused = False
        connection.add_log_listener(self._listen)

    @classmethod
    async def open(cls, address: Address) -> "Extended":
        """Connect."""
        try:
            connection = await asyncpg.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                password=address.password,
                database=address.database,
                server_settings=address.settings,
                timeout=CONNECT_SECONDS,
            )
        except (asyncpg.PostgresError, OSError, TimeoutError, asyncpg.InterfaceError) as error:
            raise Broken(str(error)) from error
        return cls(connection)

    def _listen(self, _: object, message: Any) -> None:
        self.told |= LOST in message.message
        self.refused |= REFUSED in message.message

    async def run(self, sql: str, *params: Any) -> None:
        await self._guard(self._connection.execute, sql, *params)

    async def value(self, sql: str, *params: Any) -> Any:
        return await self._guard(self._connection.fetchval, sql, *params)

    async def _guard(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return await call(*args)
        except asyncpg.PostgresError as error:
            if self._connection.is_closed() or (error.sqlstate or "").startswith(("08", "57P01", "57P02", "57P05")):
                if LOST in str(error):
                    self.told = True
                    raise Refused(str(error)) from error
                self.drop()
                raise Broken(f"{error.sqlstate} {error}") from error
            raise Refused(f"{error.sqlstate} {error}") from error
        # The last is asyncpg's answer where the server's FATAL has arrived and its end has not.
        except (OSError, asyncpg.InterfaceError, TimeoutError, asyncpg.InternalClientError) as error:
            self.drop()
            raise Broken(str(error)) from error

    def drop(self) -> None:
        self._connection.terminate()


class Simple:
    """psycopg with parameters put into the text: everything is a simple query."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self.told = self.refused = False
        connection.add_notice_handler(self._listen)

    @classmethod
    async def open(cls, address: Address) -> "Simple":
        """Connect."""
        try:
            connection = await psycopg.AsyncConnection.connect(
                host=address.host,
                port=address.port,
                user=address.user,
                password=address.password,
                dbname=address.database,
                options=" ".join(f"-c {name}={value}" for name, value in address.settings.items()),
                connect_timeout=CONNECT_SECONDS,
                autocommit=True,
                cursor_factory=psycopg.AsyncClientCursor,
            )
        except psycopg.Error as error:
            raise Broken(str(error)) from error
        return cls(connection)

    def _listen(self, diagnostic: Any) -> None:
        message = diagnostic.message_primary or ""
        self.told |= LOST in message
        self.refused |= REFUSED in message

    async def run(self, sql: str, *params: Any) -> None:
        await self._execute(sql, *params)

    async def value(self, sql: str, *params: Any) -> Any:
        row = await (await self._execute(sql, *params)).fetchone()
        return row and row[0]

    async def _execute(self, sql: str, *params: Any) -> Any:
        for place in range(1, len(params) + 1):
            sql = sql.replace(f"${place}", f"%(p{place})s")
        named = {f"p{place}": value for place, value in enumerate(params, 1)}
        try:
            return await self._connection.execute(sql, named or None)
        except psycopg.Error as error:
            if self._connection.closed:
                raise Broken(f"{error.sqlstate} {error}") from error
            self.told |= LOST in str(error)
            raise Refused(f"{error.sqlstate} {error}") from error

    def drop(self) -> None:
        self._connection.pgconn.finish()


class Article:
    """Routing by the statement alone, as the article's router does it: writes to the primary, reads to any replica."""

    def __init__(self, links: list[Extended], choose: Callable[[list[Extended]], Extended]) -> None:
        (self._primary, *self._replicas), self._choose = links, choose
        self.told = self.refused = False
        self._in_transaction = False

    async def run(self, sql: str, *params: Any) -> None:
        if "highwater." not in sql:
            self._in_transaction = sql.startswith("BEGIN") or (
                self._in_transaction and sql not in ("COMMIT", "ROLLBACK")
            )
            await self._primary.run(sql, *params)

    async def value(self, sql: str, *params: Any) -> Any:
        if sql.startswith("SHOW"):
            return ""
        where = self._primary if self._in_transaction else self._choose(self._replicas)
        return await where.value(sql, *params)

    def drop(self) -> None:
        for link in (self._primary, *self._replicas):
            link.drop()
