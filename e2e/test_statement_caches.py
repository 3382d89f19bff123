"""Drivers that keep statements: more of them than anybody keeps, on many servers, over changes of their tables."""

import struct
from collections.abc import Iterator
from itertools import count

import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, Connection, SqlError, Target
from harness.drivers import DRIVERS, Driver
from harness.lab import Lab, paused
from harness.messages import SYNC, bind, close, describe, execute, parse
from harness.proxy import Proxy
from harness.schema import Row
from harness.wire import Wire, query
from harness.with_program import sqlx

PREPARING = ("psycopg-prepared", "asyncpg", "tokio-postgres", "node-postgres")
CACHING = [*(driver for driver in DRIVERS if driver.name in PREPARING), Driver("sqlx", sqlx)]
_tables = count(1)


@pytest.fixture(params=CACHING, ids=[driver.name for driver in CACHING])
def caching(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Connections by each driver that keeps statements."""
    connections: list[Connection] = []

    def connect(proxy: Proxy, **target: object) -> Connection:
        connections.append(request.param.open(Target(proxy.port, **target)))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


@pytest.fixture
def narrow(start_proxy: StartProxy) -> Proxy:
    """Few server connections, which keep few statements each."""
    return start_proxy(pool_size=2, prepared_max=20)


def test_more_statements_than_anybody_keeps(narrow: Proxy, caching: Connect, row: Row) -> None:
    clients = [caching(narrow, settings=PATIENT) for _ in range(3)]
    for _ in range(2):
        for number in range(120):
            for client in clients:
                assert client.value(f"SELECT v + {number} FROM counter WHERE id = %s", row.id) == number


def test_a_kept_statement_works_on_every_server(lab: Lab, narrow: Proxy, caching: Connect, row: Row) -> None:
    client = caching(narrow, settings=PATIENT | {"highwater.consistency": "session"})
    for value in range(1, 4):
        row.write(client, value)
        assert row.read(client) == value
        with paused(*lab.standbys):
            client.run("SET highwater.wait_budget = '10ms'")
            row.write(client, -value)
            assert row.read(client) == -value
        lab.settle()
        client.run("SET highwater.wait_budget = '10s'")


def test_a_kept_statement_outlives_its_standby(lab: Lab, start_proxy: StartProxy, caching: Connect, row: Row) -> None:
    client = caching(start_proxy(), settings=PATIENT | {"highwater.consistency": "session"})
    for _ in range(2):
        assert row.read(client) == 0
        with lab["standby1"].down():
            assert row.read(client) == 0
        assert row.read(client) == 0


def test_a_table_that_changes(lab: Lab, narrow: Proxy, caching: Connect) -> None:
    """What was prepared before the change may fail as on PostgreSQL, once; who prepares it anew gets the new one."""
    table = f"changing{next(_tables)}"
    one, two = (caching(narrow, settings=PATIENT) for _ in range(2))
    one.run(f"CREATE TABLE {table} (a int, b int)")
    one.run(f"INSERT INTO {table} VALUES (1, 2)")
    sql = f"SELECT * FROM {table} WHERE a = %s"
    for client in (one, two):
        assert client.rows(sql, 1) == [(1, 2)]
        assert client.rows(sql, 1) == [(1, 2)]
    one.run(f"ALTER TABLE {table} ALTER b TYPE text USING 'text'")
    fresh = caching(narrow, settings=PATIENT)
    assert fresh.rows(sql, 1) == [(1, "text")]
    for client in (one, two):
        try:
            rows = client.rows(sql, 1)
        except SqlError as stale:
            assert stale.sqlstate == "0A000"  # noqa: PT017
            rows = caching(narrow, settings=PATIENT).rows(sql, 1)
        assert rows == [(1, "text")]
    assert fresh.rows(sql, 1) == [(1, "text")]


def test_a_statement_that_fails_to_parse_is_forgotten(narrow: Proxy, caching: Connect) -> None:
    client = caching(narrow, settings=PATIENT)
    table = f"later{next(_tables)}"
    for _ in range(2):
        with pytest.raises(SqlError) as missing:
            client.rows(f"SELECT * FROM {table} WHERE i = %s", 1)
        assert missing.value.sqlstate == "42P01"
    client.run(f"CREATE TABLE {table} (i int)")
    assert client.rows(f"SELECT * FROM {table} WHERE i = %s", 1) == []


def test_schemas_keep_equal_texts_apart(lab: Lab, narrow: Proxy, caching: Connect) -> None:
    """The same text under another search_path is another statement."""
    names = [f"tenant{next(_tables)}" for _ in range(2)]
    types = ("int", "text")
    lab.primary.rows("".join(f"CREATE SCHEMA {name} AUTHORIZATION app;" for name in names))
    for name, kind in zip(names, types, strict=True):
        lab.primary.rows(f"CREATE TABLE {name}.thing (v {kind}); INSERT INTO {name}.thing VALUES ('7')")
        lab.primary.rows(f"ALTER TABLE {name}.thing OWNER TO app")
    lab.settle()
    clients = [caching(narrow, settings=PATIENT | {"search_path": name}) for name in names]
    for _ in range(3):
        assert clients[0].rows("SELECT v FROM thing WHERE 1 = %s", 1) == [(7,)]
        # psql's text has no types; what these drivers give back has.
        assert clients[1].rows("SELECT v || '!' FROM thing WHERE 1 = %s", 1) == [("7!",)]
        assert [str(client.value("SELECT v FROM thing WHERE 2 = %s", 2)) for client in clients] == ["7", "7"]


def test_a_server_that_never_had_the_statement(lab: Lab, start_proxy: StartProxy) -> None:
    """It would prepare it for the table as it is now, and the client would read rows by the old description."""
    table, database = f"changing{next(_tables)}", "shop@primary"
    lab.primary.rows(
        f"CREATE TABLE {table} (v int); GRANT SELECT ON {table} TO trusted; INSERT INTO {table} VALUES (2)"
    )
    port = start_proxy(pool_size=2, auth="trust").port
    with Wire(port) as client, Wire(port) as other:
        for wire in (client, other):
            wire.log_in(database=database)
        prepare, run = parse(f"SELECT v FROM {table}", "s"), bind(name="s") + execute() + SYNC
        client.send(prepare + describe("S", "s") + SYNC)
        assert client.until(b"T", b"E")
        client.until(b"Z")
        client.send(run)
        assert client.until(b"D", b"E") == struct.pack(">hi", 1, 1) + b"2"
        client.until(b"Z")
        # Whoever takes the connection that has it leaves the client one that has not.
        other.send(query("BEGIN; SELECT 1 FOR UPDATE"))
        other.until(b"Z")
        lab.primary.rows(f"ALTER TABLE {table} ALTER v TYPE text USING 'text'")
        for _ in range(2):
            client.send(run)
            complaint = client.complaint()
            assert (complaint["C"], complaint["R"]) == ("0A000", "RevalidateCachedQuery")
            client.until(b"Z")
        client.send(close("S", "s") + prepare + run)
        assert client.until(b"D", b"E") == struct.pack(">hi", 1, 4) + b"text"


def test_a_text_that_yields_something_else_for_another_client(start_proxy: StartProxy) -> None:
    """Temporary tables of one name: each client's statement is its own, although the texts are equal."""
    port = start_proxy(pool_size=2, auth="trust").port
    prepare, run = parse("SELECT v FROM own", "s") + describe("S", "s") + SYNC, bind(name="s") + execute() + SYNC
    with Wire(port) as one, Wire(port) as two:
        for wire, kind, value in ((one, "int", "7"), (two, "text", "seven")):
            wire.log_in()
            wire.send(query(f"CREATE TEMP TABLE own AS SELECT '{value}'::{kind} AS v"))
            wire.until(b"Z")
        for _ in range(2):
            for wire, value in ((one, b"7"), (two, b"seven")):
                wire.send(prepare)
                assert wire.until(b"T", b"E")[:2] == b"\0\1"
                wire.until(b"Z")
                for _ in range(2):
                    wire.send(run)
                    assert wire.until(b"D", b"E")[6:] == value
                    wire.until(b"Z")
                wire.send(close("S", "s") + SYNC)
                wire.until(b"Z")
