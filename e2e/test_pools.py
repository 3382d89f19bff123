"""Pools under pressure: sizes, queues, lifetimes, limits, dead connections, and memory that does not grow."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import mean

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import Connection, SqlError
from harness.lab import Lab, Server
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until
from harness.wire import Wire, query

MEGABYTE = 1 << 20

# 200 MB, more than any socket buffers hold.
LARGE = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)"

# Who nobody else is, so that his server connections can be told from those of other proxies.
POOLED = "pooled"
BACKENDS = f"SELECT pid FROM pg_stat_activity WHERE usename = '{POOLED}' AND application_name <> 'highwater catalogue'"


@pytest.fixture(scope="module", autouse=True)
def _role(_lab: Lab) -> None:
    _lab.primary.rows(f"CREATE ROLE {POOLED} LOGIN IN ROLE app")
    _lab.settle()


def pool(proxy: Proxy, server: str, user: str = POOLED) -> dict[str, int]:
    """One line of SHOW POOLS; a pool that is not there is empty."""
    lines = [it for it in proxy.console("SHOW POOLS") if (it["user"], it["server"]) == (user, server)]
    counts = ("sv_active", "sv_idle", "cl_waiting")
    return {name: sum(int(line[name]) for line in lines) for name in counts}


def backends(server: Server) -> set[int]:
    """The processes that serve the role there."""
    return {pid for (pid,) in server.rows(BACKENDS)}


# Sizes and lifetimes.


def test_the_least_size_is_kept(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(auth="trust", pool_size_min=3, pool_size=5, server_idle_timeout="1s")
    client = plain(proxy, user=POOLED)
    for name in ("primary", "standby1", "standby2"):
        until(f"three connections to {name}", lambda name=name: pool(proxy, name)["sv_idle"] == 3)
    victims = backends(lab.primary)
    assert len(victims) == 3
    for victim in victims:
        lab.primary.rows("SELECT pg_terminate_backend(%s)", victim)
    until("three others", lambda: len(backends(lab.primary) - victims) == 3)
    # Without clients nothing is kept.
    client.close()
    until("none", lambda: not backends(lab.primary))


def test_the_least_size_keeps_nobody_waiting(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    """A server that takes no connections of the pool any more holds up neither logins nor statements elsewhere."""
    lab.primary.rows("DROP ROLE IF EXISTS narrow")
    lab.primary.rows("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
    lab.settle()
    proxy = start_proxy(pool_size_min=4, auth="trust")
    began = time.monotonic()
    clients = [plain(proxy, user="narrow", database="shop@primary") for _ in range(3)]
    for _ in range(3):
        for client in clients:
            assert client.value("SELECT 1") == 1
    assert time.monotonic() - began < 3
    for client in clients:
        client.close()


def test_the_size_holds_for_logins_too(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    """Each new set of start-up settings is tried out on a server: within the pool's size."""
    proxy = start_proxy(pool_size=2, auth="trust")
    most = 0

    def log_in(index: int) -> None:
        parameters = proxy.parameters(user=POOLED) | {"options": f"-c work_mem={index + 100}kB"}
        with psycopg.connect(**parameters, autocommit=True) as client:
            assert client.execute("SHOW work_mem").fetchone() == (f"{index + 100}kB",)

    with ThreadPoolExecutor(16) as threads:
        logins = [threads.submit(log_in, index) for index in range(40)]
        while not all(login.done() for login in logins):
            most = max(most, len(backends(lab.primary)))
        for login in logins:
            login.result()
    # For each that is closed in favour of another one the server needs a moment to end it.
    assert most <= 4


def test_connections_end_when_their_life_is_over(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(auth="trust", server_lifetime="1s")
    client, begun = plain(proxy, user=POOLED), plain(proxy, user=POOLED)
    begun.run("BEGIN")
    kept = begun.value("SELECT pg_backend_pid()::text || pg_current_xact_id()::text")
    client.run("SELECT 1")
    until("the idle ones to end", lambda: len(backends(lab.primary)) == 1)
    assert begun.value("SELECT pg_backend_pid()::text || pg_current_xact_id()::text") == kept
    begun.run("COMMIT")
    until("the last one to end", lambda: not backends(lab.primary))
    assert client.value("SELECT 1") == 1


def test_connections_end_that_nobody_uses(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(auth="trust", server_idle_timeout="1s")
    client = plain(proxy, user=POOLED)
    row.write(client, 1)
    assert backends(lab.primary)
    until("the primary's to end", lambda: not backends(lab.primary))
    until("all to end", lambda: not any(map(backends, lab.servers)))
    assert row.read(client) == 1


# Dead connections.


def test_a_dead_connection_is_noticed_before_use(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    """A write that met one could not be repeated."""
    proxy = start_proxy(auth="trust")
    client = plain(proxy, user=POOLED)
    for value in range(30):
        row.write(client, value)
        for server in lab.servers:
            for victim in backends(server):
                server.rows("SELECT pg_terminate_backend(%s)", victim)
        until("them to be gone", lambda: not any(map(backends, lab.servers)))
    row.write(client, 100)
    assert row.read(client) == 100


def test_a_server_killed_and_started_again(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy()
    client = plain(proxy)
    row.write(client, 1)
    with lab.primary.down():
        pass
    lab.calm()
    proxy.until_it_sees(lab.servers)
    row.write(client, 2)
    assert row.read(client) == 2


# Limits.


def in_use(plain: Connect, proxy: Proxy, row: Row) -> Connection:
    """A client in a transaction, which holds the primary's only connection."""
    holder = plain(proxy)
    holder.run("BEGIN")
    row.write(holder, 1)
    return holder


def test_a_statement_that_takes_too_long_is_cancelled(
    lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    proxy = start_proxy(query_timeout="500ms", pool_size=1)
    client, other = connect(proxy), connect(proxy)
    began = time.monotonic()
    with pytest.raises(SqlError) as late:
        client.run("SELECT pg_sleep(20)")
    assert late.value.sqlstate == "57014"
    assert "canceling statement due to query timeout" in late.value.message
    assert time.monotonic() - began < 5
    # Nobody else is met, and the client goes on.
    for value in range(20):
        row.write(other, value)
        assert row.read(client) == value


def test_in_a_transaction_too(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(query_timeout="500ms")
    client = plain(proxy)
    client.run("BEGIN")
    row.write(client, 1)
    with pytest.raises(SqlError, match="query timeout"):
        client.run("SELECT pg_sleep(20)")
    with pytest.raises(SqlError) as aborted:
        client.run("SELECT 1")
    assert aborted.value.sqlstate == "25P02"
    client.run("ROLLBACK")
    assert row.read(client) == 0


def test_waiting_for_a_connection_counts(start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(query_timeout="500ms", pool_size=1)
    holder, client = in_use(plain, proxy, row), plain(proxy)
    with pytest.raises(SqlError) as late:
        row.write(client, 2)
    assert late.value.sqlstate == "57014"
    assert "canceling statement due to query timeout" in late.value.message
    holder.run("COMMIT")
    row.write(client, 3)


def test_what_is_quick_enough_is_left_alone(start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(query_timeout="1s")
    client = plain(proxy)
    for _ in range(3):
        client.run("SELECT pg_sleep(0.5)")


def test_a_server_that_is_deaf_holds_nobody(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    """A backend that does not even act on the cancel request is left behind."""
    proxy = start_proxy(auth="trust", query_timeout="500ms", pool_size=1)
    client = plain(proxy, user=POOLED, database="shop@primary")
    client.run("SELECT count(*) FROM counter")
    (victim,) = backends(lab.primary)
    os.kill(victim, signal.SIGSTOP)
    try:
        with pytest.raises((SqlError, psycopg.OperationalError), match="query timeout"):
            client.run("SELECT 1")
        assert plain(proxy, user=POOLED, database="shop@primary").value("SELECT 2") == 2
    finally:
        os.kill(victim, signal.SIGCONT)


@pytest.mark.parametrize("statement", ["SELECT 1", "UPDATE counter SET v = 7 WHERE id = {}"])
def test_who_is_idle_in_a_transaction_is_cut_off(
    start_proxy: StartProxy, plain: Connect, row: Row, statement: str
) -> None:
    proxy = start_proxy(idle_in_transaction_timeout="500ms", auth="trust", pool_size=1)
    with Wire(proxy.port) as wire:
        wire.log_in("app")
        for sql in ("BEGIN", statement.format(row.id)):
            wire.send(query(sql))
            wire.until(b"Z")
        complaint = wire.complaint()
        assert (complaint["S"], complaint["C"]) == ("FATAL", "25P03")
        assert wire.is_closed()
    # Its lock and its place are free again.
    client = plain(proxy)
    assert row.read(client) == 0
    row.write(client, 8)


def test_who_is_busy_in_a_transaction_is_not(start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(idle_in_transaction_timeout="1s")
    client = plain(proxy)
    client.run("BEGIN")
    client.run("SELECT pg_sleep(1.5)")
    for _ in range(3):
        client.run("SELECT pg_sleep(0.5)")
    client.run("COMMIT")


def test_who_waits_in_vain_is_told_for_what(start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(pool_size=1, checkout_timeout="300ms")
    _holder, client = in_use(plain, proxy, row), plain(proxy)
    with pytest.raises(SqlError) as full:
        row.write(client, 2)
    assert full.value.sqlstate == "53300"
    assert full.value.detail == (
        'The connections to server "primary" for user "app" and database "shop" (at most 1) were all in use for 300ms '
        "(checkout_timeout); other clients waiting: 0."
    )


# Queues.


@contextmanager
def crowd(proxy: Proxy, count: int, sql: str, waits: list[float], user: str = "trusted") -> Iterator[None]:
    """Clients that run one statement after the other as long as the block lasts; how long each took."""
    over = threading.Event()

    def run() -> None:
        with Wire(proxy.port) as wire:
            wire.log_in(user, "shop@primary")
            while not over.is_set():
                began = time.monotonic()
                wire.send(query(sql))
                wire.until(b"Z")
                waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_the_queue_is_fair(start_proxy: StartProxy) -> None:
    proxy = start_proxy(auth="trust", pool_size=2)
    waits: list[float] = []
    with crowd(proxy, 50, "SELECT pg_sleep(0.005)", waits):
        until("many statements", lambda: len(waits) > 1000)
        del waits[:500]
    assert max(waits) < 4 * mean(waits), (max(waits), mean(waits), len(waits))


def test_a_crowd_starves_nobody_else(start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(auth="trust", pool_size=2)
    crowded: list[float] = []
    with crowd(proxy, 50, "SELECT pg_sleep(0.05)", crowded):
        until("the crowd to queue", lambda: pool(proxy, "primary", "trusted")["cl_waiting"] > 40)
        others = [plain(proxy, user="app", database="shop@primary") for _ in range(2)]
        others.append(plain(proxy, user="trusted", database="postgres@primary"))
        longest = 0.0
        for _ in range(50):
            for other in others:
                began = time.monotonic()
                other.run("SELECT 1")
                longest = max(longest, time.monotonic() - began)
    assert longest < mean(crowded) / 4, (longest, mean(crowded))


# Memory.


def test_readers_that_stall_cost_little_each(start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(auth="trust", pool_size=40)
    client = psycopg.connect(**proxy.parameters(), autocommit=True)
    assert client.execute("SELECT 1").fetchone() == (1,)
    proxy.forget_peak()
    before = proxy.memory_bytes()
    stalled = 30
    with ExitStack() as stack:
        for _ in range(stalled):
            wire = stack.enter_context(Wire(proxy.port, receive_buffer_bytes=16_384))
            wire.log_in()
            wire.send(query(LARGE))
            wire.until(b"D")
        # One that reads on gets all of its 200 MB past the others.
        reader = stack.enter_context(Wire(proxy.port))
        reader.log_in()
        reader.send(query(LARGE))
        rows, tag = 0, b""
        while tag != b"Z":
            tag, _ = reader.receive()
            rows += tag == b"D"
        assert rows == 20_000
        assert client.execute("SELECT 1").fetchone() == (1,)
        assert proxy.memory_bytes("VmHWM") - before < stalled * MEGABYTE // 4
    client.close()


def test_one_large_row_is_not_held_whole(start_proxy: StartProxy) -> None:
    proxy = start_proxy(auth="trust")
    with Wire(proxy.port, receive_buffer_bytes=16_384) as wire:
        wire.log_in()
        wire.send(query("SELECT 1"))
        wire.until(b"Z")
        proxy.forget_peak()
        before = proxy.memory_bytes()
        wire.send(query("SELECT repeat('x', 200000000)"))
        assert len(wire.until(b"D")) > 200_000_000
        wire.until(b"Z")
        assert proxy.memory_bytes("VmHWM") - before < 4 * MEGABYTE
