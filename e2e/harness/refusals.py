"""Logins that fail, by a driver that tells the SQLSTATE of it: libpq does not."""

import asyncio
import gc
import warnings
from typing import Any

import asyncpg

from .proxy import Proxy


def refusal(proxy: Proxy, **target: Any) -> str:
    """The SQLSTATE with which a login is refused; empty when it is not. The keywords are asyncpg's `connect`'s."""
    wanted = {"host": "127.0.0.1", "port": proxy.port, "database": "shop", "user": "app", "password": "app"}

    async def attempt() -> str:
        try:
            connection = await asyncpg.connect(**{"ssl": False, **wanted, **target}, timeout=20)
        except asyncpg.PostgresError as error:
            return error.sqlstate or ""
        await connection.close()
        return ""

    sqlstate = asyncio.run(attempt())
    # asyncpg drops the socket of a refused login without closing it; collected elsewhere it would spoil another test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return sqlstate
