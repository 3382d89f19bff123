"""What real drivers do while the forwarder listens: the same few things in every way that each of them knows."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import psycopg

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "e2e"))

from harness.connection import SqlError, Target
from harness.with_tokio_postgres import TokioPostgres

SCHEMA = "CREATE TABLE t (id int PRIMARY KEY, v text, f float8, b bytea, d timestamptz DEFAULT now(), a int[])"
ROW = "INSERT INTO t (id, v) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET v = excluded.v RETURNING id"
FAILING = "SELECT 1 / 0"
USER, PASSWORD, DATABASE = "app", "app", "shop"


def dsn(port: int) -> str:
    """Where the forwarder is, for libpq."""
    return f"host=127.0.0.1 port={port} user={USER} password={PASSWORD} dbname={DATABASE} sslmode=prefer"


def with_psycopg(port: int) -> None:
    """psycopg: client and server binding, prepared, pipelined, COPY, cursors, errors, notifications."""
    with psycopg.connect(dsn(port), options="-c statement_timeout=5s -c search_path=public", autocommit=True) as one:
        one.execute("DROP TABLE IF EXISTS t")
        one.execute(SCHEMA)
        one.execute("LISTEN news; NOTIFY news, 'x'; SELECT 1; SELECT 2 AS two, NULL")
        with contextlib.suppress(psycopg.Error):
            one.execute(FAILING)
        psycopg.ClientCursor(one).execute("SELECT %s, %s, %s", ("it's", 7, None))
        one.execute("SELECT %s::text, %s::int, %s::float8", ("a", 7, 0.5))
        one.execute("SELECT %b::int, %b::bytea", (7, b"\x00\xff"), binary=True)
        for number in range(3):
            one.execute("SELECT v FROM t WHERE id = %s", (number,), prepare=True)
        one.cursor().executemany(ROW, [(1, "one"), (2, None), (3, "drei € ü")])
        with contextlib.suppress(psycopg.Error), one.pipeline() as pipeline:
            one.execute("SELECT count(*) FROM t")
            pipeline.sync()
            one.execute(FAILING)
            one.execute("SELECT 3")
            pipeline.sync()
        with one.cursor() as cursor, cursor.copy("COPY t (id, v) FROM STDIN") as copy:
            copy.write_row((10, "ten"))
            copy.write_row((11, None))
        with one.cursor() as cursor, cursor.copy("COPY t TO STDOUT (FORMAT binary)") as copy:
            list(copy)
        with contextlib.suppress(psycopg.Error), one.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            copy.write(b"bad\tdata\n")
        with one.transaction(), one.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT generate_series(1, 5)")
            cursor.fetchmany(2)
        one.execute("DO $$ BEGIN RAISE NOTICE 'noted' USING DETAIL = 'more', HINT = 'less'; END $$")


def with_asyncpg(port: int) -> None:
    """asyncpg: everything extended and binary, Flush, suspended portals."""

    async def play() -> None:
        one = await asyncpg.connect(
            host="127.0.0.1", port=port, user=USER, password=PASSWORD, database=DATABASE, ssl=False,
            server_settings={"application_name": "seeds", "jit": "off"},
        )  # fmt: skip
        await one.fetch("SELECT id, v, f, b, d, a FROM t WHERE id = ANY($1::int[])", [1, 2])
        await one.executemany("INSERT INTO t (id, a) VALUES ($1, $2)", [(20, [1, 2]), (21, None)])
        async with one.transaction(isolation="repeatable_read", readonly=True):
            async for _ in one.cursor("SELECT generate_series(1, 120)"):
                pass
        with contextlib.suppress(asyncpg.PostgresError):
            await one.fetch("SELECT $1::int / 0", 1)
        await one.copy_records_to_table("t", records=[(30, "x")], columns=["id", "v"])
        await one.execute("SET work_mem = '8MB'; RESET work_mem")
        await one.close()

    asyncio.run(play())


def with_tokio_postgres(port: int) -> None:
    """tokio-postgres, by the program that the driver tests use."""
    one = TokioPostgres(Target(port=port, database=DATABASE, user=USER, password=PASSWORD))
    one.run("BEGIN; SELECT 1; COMMIT")
    one.rows("SELECT v FROM t WHERE id = %s", 1)
    with contextlib.suppress(SqlError):
        one.rows("SELECT 1 / %s::int", 0)
    one.close()


def with_programs(port: int) -> None:
    """psql and pgbench."""
    environment = os.environ | {"PGPASSWORD": PASSWORD, "PGAPPNAME": "seeds"}
    where = ["-h", "127.0.0.1", "-p", str(port), "-U", USER]
    script = r"""\d t
\dt
COPY (SELECT 1) TO STDOUT;
\copy t (id) FROM STDIN
99
\.
BEGIN; SAVEPOINT a; SELECT broken; ROLLBACK TO a; COMMIT;
;
SELECT $1, $2 \bind 'x' 2 \g
"""
    subprocess.run(["psql", *where, DATABASE], input=script, text=True, env=environment, capture_output=True, check=True)
    pgbench = ["pgbench", *where]
    subprocess.run([*pgbench, "-i", "-q", DATABASE], env=environment, capture_output=True, check=True)
    for mode in ("simple", "extended", "prepared"):
        options = ["-n", "-t", "2", "-M", mode]
        subprocess.run([*pgbench, *options, DATABASE], env=environment, capture_output=True, check=True)


NODE = """
const { Client } = require('pg');
(async () => {
  const one = new Client({ host: '127.0.0.1', port: %d, user: '%s', password: '%s', database: '%s' });
  await one.connect();
  await one.query('SELECT 1; SELECT now()');
  await one.query('SELECT $1::text AS a, $2::int AS b', ['x', 7]);
  await one.query({ name: 'by-id', text: 'SELECT v FROM t WHERE id = $1', values: [1] });
  await one.query({ name: 'by-id', text: 'SELECT v FROM t WHERE id = $1', values: [2] });
  await one.query({ text: 'SELECT $1::jsonb', values: [{ a: [1, null] }], rowMode: 'array' });
  await one.query('SELECT $1::int / 0', [1]).catch(() => {});
  await one.end();
})();
"""


def with_node(port: int) -> None:
    """node-postgres, installed into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        quiet = ["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", folder, "pg@8"]
        subprocess.run(quiet, check=True, stdout=subprocess.DEVNULL)
        script = Path(folder, "play.js")
        script.write_text(NODE % (port, USER, PASSWORD, DATABASE))
        subprocess.run(["node", script], check=True)


ALL = (with_psycopg, with_asyncpg, with_tokio_postgres, with_programs, with_node)
