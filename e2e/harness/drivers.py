"""The drivers that each scenario runs with."""

from collections.abc import Callable
from typing import NamedTuple

import psycopg

from .connection import Connection, Target
from .with_asyncpg import Asyncpg
from .with_program import node_postgres, tokio_postgres
from .with_psql import Psql
from .with_psycopg import Psycopg


class Driver(NamedTuple):
    """A driver by name."""

    name: str
    open: Callable[[Target], Connection]


# Parameters bound by the client, by the server, in prepared statements; three other implementations; no driver at all.
DRIVERS = [
    Driver("psycopg-client", lambda target: Psycopg(target, cursor_factory=psycopg.ClientCursor)),
    Driver("psycopg-server", lambda target: Psycopg(target, prepare_threshold=None)),
    Driver("psycopg-prepared", lambda target: Psycopg(target, prepare_threshold=0)),
    Driver("asyncpg", Asyncpg),
    Driver("tokio-postgres", tokio_postgres),
    Driver("node-postgres", node_postgres),
    Driver("psql", Psql),
]
