"""Both directions between primary and standbys: neither may show less than the other has shown."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, SqlError
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

SESSION = {"highwater.consistency": "session"} | PATIENT


def test_primary_then_standby(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings={"highwater.consistency": "session"})
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        client.run("BEGIN")
        assert row.read(client) == 1
        client.run("COMMIT")
        assert row.read(client) == 1
        assert client.server() == "primary"
    lab.settle()
    until("a standby to serve the session again", lambda: row.read(client) == 1 and client.server() != "primary")


def test_primary_then_standby_waits_for_replay(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, database="shop", settings=SESSION)
    client.run("BEGIN")
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        assert row.read(client) == 1
        client.run("COMMIT")
        token = client.token()
        settings = {"highwater.token": token, "highwater.wait_budget": "20s"}
        bearer = connect(proxy, database="shop@replica", settings=settings)
        waits = proxy.stat("waits")
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(row.read, bearer)
            until("the read to wait", lambda: proxy.stat("waits") > waits)
            lab["standby2"].resume()
            assert reading.result() == 1
    assert bearer.server() == "standby2"


@contextmanager
def hidden_commit(lab: Lab, row: Row, value: int) -> Iterator[None]:
    """A commit that standby2 shows and the primary does not: it waits for standby1, which is synchronous and paused."""
    writer = lab.primary.connect()
    writer.execute("SET synchronous_commit = remote_apply")
    with lab.primary.with_setting("synchronous_standby_names", "standby1"):
        role = "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'standby1'"
        until("standby1 to be synchronous", lambda: lab.primary.value(role) == "sync")
        # The checkpointer tells the others of the setting, when it hears of it itself.
        lab.primary.rows("CHECKPOINT")
        commit = threading.Thread(target=lambda: row.write(_On(writer), value))
        commit.start()
        try:
            until("standby2 to show the commit", lambda: row.read(lab["standby2"]) == value)
            assert row.read(lab.primary) != value
            yield
        finally:
            lab["standby1"].resume()
            commit.join(timeout=15)
            writer.close()


class _On:
    """A direct connection as `Row` wants it."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *params: object) -> list[tuple[object, ...]]:
        self._connection.execute(sql, params)
        return []


@pytest.fixture
def curt(start_proxy: StartProxy) -> Proxy:
    """A proxy that does not wait long for the primary to show what a standby has shown."""
    return start_proxy(visibility_timeout="300ms")


def test_standby_then_primary(lab: Lab, curt: Proxy, connect: Connect, row: Row) -> None:
    """The reverse anomaly, held open: the session must not be shown a primary without what it has seen."""
    client = connect(curt, settings=SESSION)
    with paused(lab["standby1"]):
        # Binds the session to more than standby1 has.
        row.write(client, 1)
        with hidden_commit(lab, row, 2):
            assert row.read(client) == 2
            assert client.server() == "standby2"
            client.run("SET highwater.wait_budget = '300ms'")
            with pytest.raises(SqlError) as refused:
                client.rows(f"/* highwater.consistency='primary' */ SELECT v FROM counter WHERE id = {row.id}")
            assert refused.value.sqlstate == "53400"
            with pytest.raises(SqlError):
                client.rows(f"SELECT v FROM counter WHERE id = {row.id} FOR UPDATE")
            # It goes on where it was.
            assert row.read(client) == 2
            assert client.server() == "standby2"
    # Now the primary shows it.
    assert client.value(f"/* highwater.consistency='primary' */ SELECT v FROM counter WHERE id = {row.id}") == 2
    assert client.server() == "primary"


def test_standby_then_primary_by_token(lab: Lab, curt: Proxy, connect: Connect, row: Row) -> None:
    with paused(lab["standby1"]), hidden_commit(lab, row, 1):
        reader = connect(curt, database="shop@standby2", settings=SESSION)
        assert row.read(reader) == 1
        bearer = connect(curt, database="shop@primary", settings={"highwater.token": reader.token()})
        with pytest.raises(SqlError) as refused:
            row.read(bearer)
        assert refused.value.sqlstate == "53400"
    assert row.read(bearer) == 1


def test_strong_reads_survive_a_hidden_commit(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    """Nothing that hangs in synchronous replication may make the proxy hang with it."""
    client = connect(proxy, settings=PATIENT)
    with paused(lab["standby1"]), hidden_commit(lab, row, 1):
        for _ in range(5):
            assert row.read(client) == 1
            assert client.server() == "standby2"


def test_what_must_run_on_the_primary_waits_until_it_shows_what_was_seen(
    lab: Lab, proxy: Proxy, connect: Connect, row: Row
) -> None:
    client = connect(proxy, settings=SESSION)
    with paused(lab["standby1"]), ThreadPoolExecutor() as pool:
        row.write(client, 1)
        with hidden_commit(lab, row, 2):
            assert row.read(client) == 2
            waits = proxy.stat("waits")
            reading = pool.submit(client.value, f"SELECT v FROM counter WHERE id = {row.id} FOR SHARE")
            until("the read to wait", lambda: proxy.stat("waits") > waits)
        assert reading.result() == 2
