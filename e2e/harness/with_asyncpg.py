"""The adapter for asyncpg, which speaks the extended protocol with named statements, without libpq."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import asyncpg

from .connection import Connection, SqlError, Target, numbered


class Asyncpg(Connection):
    """asyncpg, with an event loop that runs only while a statement does."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        connecting = asyncpg.connect(
            host="127.0.0.1",
            port=target.port,
            database=target.database,
            user=target.user,
            password=target.password,
            server_settings=target.settings,
            ssl=False,
        )
        try:
            self._connection = self._finish(connecting)
        except Exception:
            self._loop.close()
            raise
        self._connection.add_log_listener(lambda _, it: self.notices.append(f"{it.sqlstate} {it.message}"))

    def _finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def with_callbacks() -> Any:
            try:
                return await work
            finally:
                # Notices are handed over by the loop's next round.
                await asyncio.sleep(0)

        try:
            return self._loop.run_until_complete(with_callbacks())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            sqlstate = getattr(error, "sqlstate", None) or "08006"
            raise SqlError(sqlstate, str(error), getattr(error, "detail", None) or "") from error

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        work = self._connection.fetch(numbered(sql, params), *params)
        return [tuple(record) for record in self._finish(work)]

    def run(self, sql: str, *params: Any) -> None:
        # Without parameters this is the simple protocol, which `fetch` never uses.
        if params:
            self.rows(sql, *params)
        else:
            self._finish(self._connection.execute(sql))

    def close(self) -> None:
        if not self._connection.is_closed():
            self._loop.run_until_complete(self._connection.close())
        self._loop.close()
