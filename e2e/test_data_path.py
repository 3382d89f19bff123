"""Bytes in both directions: COPY, large results, pipelines, several statements at once, and cancelling."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import Connection, SqlError
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until
from harness.wire import Wire, message, query

STANDBYS = {"standby1", "standby2"}
MEGABYTE = 1 << 20

# 200 MB in rows of 10 kB.
LARGE = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)"


@pytest.fixture
def client(proxy: Proxy) -> Iterator[psycopg.Connection]:
    """psycopg itself, for what only a driver's own interface can do."""
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        yield client


@pytest.fixture
def patient(client: psycopg.Connection) -> psycopg.Connection:
    """The same for tests that expect a standby to serve."""
    client.execute("SET highwater.wait_budget = '10s'")
    return client


def server_of(client: psycopg.Connection) -> str:
    """Where the last statement ran."""
    route = client.execute("SHOW highwater.last_route").fetchone()
    assert route
    return str(route[0]).split()[0]


def test_copy_in_is_read_back(lab: Lab, client: psycopg.Connection, row: Row) -> None:
    with paused(*lab.standbys):
        with client.cursor().copy("COPY bulk FROM STDIN") as copy:
            for number in range(10_000):
                copy.write_row((row.id, f"line {number}"))
        assert server_of(client) == "primary"
        count = client.execute("SELECT count(*) FROM bulk WHERE id = %s", (row.id,)).fetchone()
    assert count == (10_000,)


def test_copy_in_that_fails_half_way_leaves_nothing(client: psycopg.Connection, row: Row) -> None:
    with pytest.raises(ZeroDivisionError), client.cursor().copy("COPY bulk FROM STDIN") as copy:
        copy.write_row((row.id, "x"))
        raise ZeroDivisionError
    assert client.execute("SELECT count(*) FROM bulk WHERE id = %s", (row.id,)).fetchone() == (0,)
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), client.cursor().copy("COPY bulk FROM STDIN") as copy:
        copy.write(b"no number\tx\n")
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_copy_out_runs_on_a_standby(patient: psycopg.Connection) -> None:
    with patient.cursor().copy("COPY (SELECT generate_series(1, 10000)) TO STDOUT") as copy:
        assert sum(1 for _ in copy.rows()) == 10_000
    assert server_of(patient) in STANDBYS


def test_psql_copies_both_ways(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    command = ["psql", "-XAtq", str(psycopg.conninfo.make_conninfo(**proxy.parameters()))]
    script = f"\\copy bulk from program 'printf \"{row.id}\\\\tone\\\\n{row.id}\\\\ttwo\\\\n\"'"
    script += f"\n\\copy (SELECT text FROM bulk WHERE id = {row.id} ORDER BY 1) to stdout\n"
    done = subprocess.run(command, input=script, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "")
    assert client.value("SELECT count(*) FROM bulk WHERE id = %s", row.id) == 2


def test_a_large_result_is_streamed(proxy: Proxy, client: psycopg.Connection) -> None:
    proxy.forget_peak()
    before = proxy.memory_bytes()
    cursor = client.cursor()
    assert sum(len(row[0]) for row in cursor.stream(LARGE)) == 200_000_000
    assert proxy.memory_bytes("VmHWM") - before < 16 * MEGABYTE


def test_a_large_statement_is_passed_on(client: psycopg.Connection) -> None:
    text = "y" * (20 * MEGABYTE)
    assert client.execute("SELECT length(%s)", (text,)).fetchone() == (len(text),)
    assert client.execute(f"SELECT length('{text}')").fetchone() == (len(text),)


def test_several_statements_in_one_message(patient: psycopg.Connection, row: Row) -> None:
    cursor = patient.execute("SELECT 1; SELECT 2")
    assert cursor.fetchone() == (1,)
    assert cursor.nextset()
    assert cursor.fetchone() == (2,)
    assert server_of(patient) in STANDBYS
    patient.execute(f"SELECT 1; UPDATE counter SET v = 5 WHERE id = {row.id}; SELECT 2")
    assert server_of(patient) == "primary"
    assert patient.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (5,)
    with pytest.raises(psycopg.errors.DivisionByZero):
        patient.execute(f"UPDATE counter SET v = 6 WHERE id = {row.id}; SELECT 1 / 0")
    assert patient.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (5,)


def test_transaction_control_inside_one_message(client: psycopg.Connection, row: Row) -> None:
    client.execute(f"BEGIN; UPDATE counter SET v = 1 WHERE id = {row.id}; COMMIT; SELECT 1")
    assert client.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    client.execute(f"BEGIN; UPDATE counter SET v = 2 WHERE id = {row.id}")
    assert client.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    client.execute("ROLLBACK; SELECT 1")
    assert client.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (1,)


@pytest.mark.parametrize("text", ["", ";", "-- nothing"])
def test_empty_statements(client: psycopg.Connection, text: str) -> None:
    client.execute(text)
    assert client.execute("SELECT 1").fetchone() == (1,)


def test_pipelines_read_what_they_wrote(lab: Lab, client: psycopg.Connection, row: Row) -> None:
    with paused(*lab.standbys), client.pipeline():
        for value in range(1, 101):
            client.execute("UPDATE counter SET v = %s WHERE id = %s", (value, row.id))
        cursor = client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
        assert cursor.fetchone() == (100,)


def test_pipelines_of_reads_run_on_a_standby(patient: psycopg.Connection) -> None:
    def is_on_standby() -> bool:
        with patient.pipeline():
            cursors = [patient.execute("SELECT %s::int", (number,)) for number in range(200)]
            assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(200)]
        return server_of(patient) in STANDBYS

    # Not one whose client is kept from sending the rest for 20 ms, as a busy machine does.
    until("a whole pipeline to come in time", is_on_standby)


def test_pipelines_larger_than_all_buffers(client: psycopg.Connection) -> None:
    """Statements still go in while results come out: whoever does only one of the two at a time waits for ever."""
    text = "z" * (2 * MEGABYTE)
    with client.pipeline():
        cursors = [client.execute("SELECT %s::text", (text,)) for _ in range(20)]
    assert all(cursor.fetchone() == (text,) for cursor in cursors)


def test_an_error_in_the_middle_of_a_pipeline(client: psycopg.Connection, row: Row) -> None:
    with client.pipeline() as pipeline:
        first = client.execute("SELECT 1")
        pipeline.sync()
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
            client.execute("SELECT 1 / 0")
            client.execute("UPDATE counter SET v = 2 WHERE id = %s", (row.id,))
            pipeline.sync()
        last = client.execute("SELECT 3")
        assert (first.fetchone(), last.fetchone()) == ((1,), (3,))
    # What stood before the error in the same implicit transaction is undone with it.
    assert client.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (0,)


def test_executemany(lab: Lab, client: psycopg.Connection, row: Row) -> None:
    with paused(*lab.standbys):
        client.cursor().executemany("INSERT INTO bulk VALUES (%s, %s)", [(row.id, str(n)) for n in range(500)])
        assert client.execute("SELECT count(*) FROM bulk WHERE id = %s", (row.id,)).fetchone() == (500,)


def test_row_limits_and_portals(client: psycopg.Connection) -> None:
    with client.transaction(), client.cursor(name="c") as cursor:
        cursor.itersize = 7
        cursor.execute("SELECT generate_series(1, 50)")
        assert [row[0] for row in cursor] == list(range(1, 51))


# A read that runs until somebody stops it, and a volatile function that does.
ENDLESS = {"standby": "SELECT count(*) FROM generate_series(1, 1000000000)", "primary": "SELECT pg_sleep(60)"}


@contextmanager
def running(lab: Lab, marker: str) -> Iterator[None]:
    """Wait until a statement with this marker runs somewhere; afterwards until none does."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()"

    def count() -> int:
        return sum(server.value(sql, f"%{marker}%") for server in lab.servers)

    until("the statement to run", count)
    yield
    until("the statement to end", lambda: not count())


@pytest.mark.parametrize("where", ["standby", "primary"])
def test_cancel_stops_the_right_statement(lab: Lab, proxy: Proxy, where: str) -> None:
    clients = [psycopg.connect(**proxy.parameters(), autocommit=True) for _ in range(2)]
    outcome: list[str | None] = [None, None]

    def run(index: int) -> None:
        try:
            clients[index].execute(f"/* client {index} */ {ENDLESS[where]}")
        except psycopg.Error as error:
            outcome[index] = error.sqlstate

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    with running(lab, "/* client 1 */"):
        with running(lab, "/* client 0 */"):
            clients[0].cancel_safe()
            threads[0].join(timeout=20)
        assert outcome == ["57014", None]
        assert threads[1].is_alive()
        clients[1].cancel_safe()
    threads[1].join(timeout=20)
    assert outcome == ["57014", "57014"]
    for client in clients:
        assert client.execute("SELECT 1").fetchone() == (1,)
        client.close()


def test_cancel_of_an_idle_client_hits_nobody(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    with psycopg.connect(**proxy.parameters(), autocommit=True) as idle:
        idle.execute("SELECT 1")
        worker = connect(proxy)
        for _ in range(5):
            idle.cancel_safe()
            assert row.read(worker) == 0
        assert idle.execute("SELECT 1").fetchone() == (1,)


def test_asyncpg_cancels_by_timeout(proxy: Proxy) -> None:
    import asyncio

    async def scenario() -> None:
        target = proxy.parameters()
        target["database"] = target.pop("dbname")
        client = await asyncpg.connect(**target, ssl=False)
        with pytest.raises(asyncio.TimeoutError):
            await client.fetch("SELECT pg_sleep(60)", timeout=0.3)
        assert await client.fetchval("SELECT 1") == 1
        await client.close()

    began = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - began < 15


def test_psql_cancels_by_interrupt(lab: Lab, proxy: Proxy) -> None:
    command = ["psql", "-XAtq", "-c", "SELECT /* by psql */ pg_sleep(60)", "-c", "SELECT 1"]
    command.append(str(psycopg.conninfo.make_conninfo(**proxy.parameters())))
    psql = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with running(lab, "/* by psql */"):
        psql.send_signal(signal.SIGINT)
        _, complaint = psql.communicate(timeout=20)
    assert "canceling statement due to user request" in complaint


def test_errors_pass_with_all_their_fields(proxy: Proxy, connect: Connect, row: Row) -> None:
    client: Connection = connect(proxy)
    with pytest.raises(SqlError) as duplicate:
        client.run(f"INSERT INTO counter VALUES ({row.id}, 1)")
    assert duplicate.value.sqlstate == "23505"
    assert duplicate.value.detail == f"Key (id)=({row.id}) already exists."
    with pytest.raises(SqlError) as division:
        client.rows("SELECT 1 / (id - id) FROM counter")
    assert division.value.sqlstate == "22012"
    assert row.read(client) == 0


@pytest.mark.parametrize("data", [b"1\n", b"bad\n"], ids=["good", "bad"])
def test_copy_in_with_a_sync_behind_its_execute(start_proxy: StartProxy, data: bytes) -> None:
    """As libpq does it with parameters, and tokio-postgres always: the server takes that Sync for data."""
    proxy = start_proxy(auth="trust", pool_size=1)
    begin = [
        message(b"P", b"\0COPY bulk (id) FROM STDIN\0\0\0"),
        message(b"B", bytes(8)),
        message(b"E", bytes(5)),
        message(b"S", b""),
    ]
    with Wire(proxy.port) as wire:
        wire.log_in()
        wire.send(b"".join(begin))
        wire.until(b"G")
        wire.send(message(b"d", data) + message(b"c", b"") + message(b"S", b""))
        wire.until(b"C" if data == b"1\n" else b"E")
        wire.until(b"Z")
        wire.send(query("SELECT 8"))
        assert wire.until(b"D").endswith(b"8")
