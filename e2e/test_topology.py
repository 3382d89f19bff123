"""Clusters that change their shape: standbys behind standbys, standbys made anew, and addresses that lead elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest

from conftest import StartProxy
from harness.address import Address
from harness.connection import PATIENT, Connection, SqlError, Target
from harness.drivers import DRIVERS
from harness.lab import Lab, paused
from harness.proxy import APP, Proxy
from harness.schema import Row
from harness.waiting import until

SESSION = {"highwater.consistency": "session"}
HURRIED = SESSION | {"highwater.wait_budget": "50ms"}
STANDBYS = {"standby1", "standby2"}
ROW = Row(1)
# What the log says when a probe connection has been made.
FOUND = '"server found","server":"{}"'


@pytest.fixture
def each() -> Iterator[list[Connection]]:
    """Filled by the test, closed with it."""
    clients: list[Connection] = []
    yield clients
    for client in clients:
        client.close()


def join(clients: list[Connection], proxy: Proxy, settings: dict[str, str]) -> list[Connection]:
    """A client of each driver."""
    clients += [driver.open(Target(proxy.port, settings=settings)) for driver in DRIVERS]
    return clients


def test_a_cascade_is_read_as_far_as_it_has_come(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """The end of a chain lags with its middle: what the middle does not replay is received further on even so."""
    middle, end = cluster.standbys
    end.follow(middle)
    proxy = start()
    clients = join(each, proxy, HURRIED)
    with paused(end):
        for value, client in enumerate(clients, 1):
            ROW.write(client, value)
            client.run("SET highwater.wait_budget = '10s'")
            assert ROW.read(client) == value
            assert client.server() == "standby1"
            assert ROW.read(end) == 0
    with paused(middle):
        for value, client in enumerate(clients, 10):
            ROW.write(client, value)
            assert ROW.read(client) == value
            assert client.server() == "standby2"


def test_a_cascade_outlives_the_failover_of_its_upstream(
    cluster: Lab, start: StartProxy, each: list[Connection]
) -> None:
    """The middle is promoted: the end changes its timeline without losing a connection, and its positions go on."""
    middle, end = cluster.standbys
    end.follow(middle)
    clients = join(each, start(), SESSION | PATIENT)
    for value, client in enumerate(clients, 1):
        ROW.write(client, value)
        assert client.token()
    # Positions are upper bounds: all of the log has arrived, not only these commits.
    cluster.primary.rows("UPDATE counter SET v = v")
    cluster.settle()
    cluster.primary.kill()
    middle.rows("SELECT pg_promote()")
    for value, client in enumerate(clients, 10):
        assert ROW.read(client) == value - 1 if value > 10 else len(clients)
        ROW.write(client, value)
        # Until the end has found its way to the new timeline the primary answers.
        until("the end to answer", lambda: (ROW.read(client), client.server()) == (value, "standby2"))
        assert client.notices == []


def test_what_a_cascade_lost_is_told(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """By its number alone the new log has come farther than the lost one soon."""
    middle, end = cluster.standbys
    end.follow(middle)
    clients = join(each, start(), SESSION | PATIENT)
    middle.setting("primary_conninfo", "host=127.0.0.1 port=1")
    gone = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    until("the chain to be cut", lambda: middle.value(gone) == 0)
    for value, client in enumerate(clients, 1):
        ROW.write(client, value)
        assert client.token()
    cluster.primary.kill()
    middle.rows("SELECT pg_promote()")
    until("the new primary to write", lambda: not middle.value("SELECT pg_is_in_recovery()"))
    for _ in range(100):
        middle.rows("INSERT INTO bulk SELECT 1, repeat('x', 1000) FROM generate_series(1, 10)")
    for client in clients:
        assert ROW.read(client) == 0
        assert len(client.notices) == 1, client.notices
        assert "may be lost" in client.notices[0]


def test_a_standby_made_anew_begins_anew(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """Rebuilt from a base backup while clients read: first away, then behind, then level."""
    proxy = start()
    clients = join(each, proxy, SESSION | PATIENT)
    standby = cluster["standby1"]
    for value, client in enumerate(clients, 1):
        ROW.write(client, value)
        assert ROW.read(client) == value
    rebuilt = threading.Thread(target=cluster.command, args=("rebuild", "standby1"))
    rebuilt.start()
    value = 100
    while rebuilt.is_alive():
        for client in clients:
            value += 1
            ROW.write(client, value)
            assert ROW.read(client) == value
    with paused(standby):
        for client in clients:
            value += 1
            ROW.write(client, value)
            assert ROW.read(client) == value
            assert client.server() != "standby1"

    def serves() -> bool:
        """Whoever comes anew may meet it; the others stay where their caches are warm."""
        with closing(DRIVERS[0].open(Target(proxy.port, settings=PATIENT))) as client:
            assert ROW.read(client) == value
            return client.server() == "standby1"

    until("the rebuilt standby to serve", serves)


def test_an_address_that_leads_to_another_standby(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """The probe still talks to the fresh one while new connections reach the one that lags."""
    fresh, late = cluster.standbys
    with closing(Address(fresh.port)) as address:
        proxy = start(cluster.primary, ("replica", address.url))
        clients = join(each, proxy, HURRIED)
        until("the replica to serve", lambda: clients[0].value("SELECT 1") and clients[0].server() == "replica")
        with paused(late):
            address.behind = late.port
            value = 0
            # New connections of clients lead to the late one; the probe stays at the fresh one, and follows by itself.
            assert fresh.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            probes = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'highwater'"
            while value < 100 or fresh.value(probes):
                client = clients[value % len(clients)]
                value += 1
                ROW.write(client, value)
                assert ROW.read(client) == value
                assert client.server() == "primary"
            assert ROW.read(late) == 0
        until("the other to serve", lambda: ROW.read(clients[0]) == value and clients[0].server() == "replica")


def test_addresses_that_change_places(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """The names of primary and standby are swapped, as failovers that move names do: roles are seen, not believed."""
    primary, standby = cluster.servers[:2]
    with closing(Address(primary.port)) as one, closing(Address(standby.port)) as two:
        proxy = start(("one", one.url), ("two", two.url))
        clients = join(each, proxy, SESSION | PATIENT)
        for value, client in enumerate(clients, 1):
            ROW.write(client, value)
            assert client.server() == "one"
        one.behind, two.behind = standby.port, primary.port
        one.hang_up()
        two.hang_up()

        for value, client in enumerate(clients, 10):
            ROW.write(client, value)
            assert client.server() == "two"
            assert ROW.read(client) == value
            assert ROW.read(primary) == value


def test_addresses_that_move_while_connections_stay(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """Only who was connected to the old place of the primary notices; the rest is asked where its address leads."""
    primary, standby = cluster.servers[:2]
    with closing(Address(primary.port)) as one, closing(Address(standby.port)) as two:
        clients = join(each, start(("one", one.url), ("two", two.url)), SESSION | PATIENT)
        for value, client in enumerate(clients, 1):
            ROW.write(client, value)
            assert (ROW.read(client), client.server()) == (value, "two")
        one.behind, two.behind = standby.port, primary.port
        one.hang_up()
        for value, client in enumerate(clients, 10):
            ROW.write(client, value)
            assert client.server() == "two"
            assert ROW.read(client) == value


def test_who_is_still_at_the_old_primary_writes_nothing_there(cluster: Lab, start: StartProxy) -> None:
    """The name leads to the new primary, and the probe has followed; connections to the old one have not."""
    old, new = cluster.servers[:2]
    with closing(Address(old.port)) as name, ExitStack() as stack:
        proxy = start(("writer", name.url))
        within, pinned = (stack.enter_context(psycopg.connect(**proxy.parameters(), autocommit=True)) for _ in range(2))
        pinned.execute("CREATE TEMP TABLE mine (i int)")
        within.execute("BEGIN")
        within.execute("UPDATE counter SET v = 1 WHERE id = 1")
        new.rows("SELECT pg_promote()")
        until("the new primary to write", lambda: not new.value("SELECT pg_is_in_recovery()"))
        name.behind = new.port
        old.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'highwater probe'")
        until("the name to be met anew", lambda: proxy.server("writer")["timeline"] == "2")
        for client, statements in (
            (within, ["UPDATE counter SET v = 2 WHERE id = 1", "COMMIT"]),
            (pinned, ["UPDATE counter SET v = 2 WHERE id = 2"]),
        ):
            with pytest.raises(psycopg.OperationalError) as refused:
                for statement in statements:
                    client.execute(statement)
            assert str(refused.value.sqlstate).startswith("08")
        assert [Row(number).read(old) for number in (1, 2)] == [0, 0]


def test_standbys_are_waited_for_by_what_they_are(cluster: Lab, start: StartProxy) -> None:
    """Neither does the primary become one by a second name, nor one standby two."""
    primary, standby = cluster.servers[:2]
    with closing(Address(primary.port)) as writer, closing(Address(standby.port)) as alias:
        proxy = start(primary, standby, ("writer", writer.url), ("alias", alias.url))
        with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
            notices: list[str] = []
            client.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
            for wanted, told in (("all", 0), ("1", 0), ("2", 1)):
                client.execute(f"SET highwater.wait_for_standbys = '{wanted}'")
                client.execute("UPDATE counter SET v = v + 1 WHERE id = 1")
                assert len(notices) == told, (wanted, notices)


def test_a_catalogue_is_kept_when_its_first_reader_is_gone(cluster: Lab, start: StartProxy) -> None:
    """A role that was dropped takes nobody's standbys along, whoever came first or last."""
    cluster.primary.rows("CREATE ROLE passing LOGIN PASSWORD 'passing' IN ROLE app")
    cluster.settle()
    proxy = start(sections=[APP, ("user", {"name": "passing", "password": "passing"})])
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        client.execute("SET highwater.wait_budget = '10s'")
        with psycopg.connect(**proxy.parameters(user="passing", password="passing")) as passing:
            passing.execute("SELECT 1")
        cluster.primary.rows("DROP ROLE passing")
        cluster.settle()
        client.execute("CREATE TABLE later (i int)")

        def is_read() -> bool:
            client.execute("SELECT peek(1)")
            row = client.execute("SHOW highwater.last_route").fetchone()
            assert row
            return str(row[0]).split()[0] in STANDBYS

        until("a function to be known as a reader", is_read)


def test_a_nudge_waits_for_no_standby(cluster: Lab, start: StartProxy) -> None:
    """Commits wait for a standby that is away. Reads, and commits that need not, go on."""
    proxy = start()
    cluster.primary.setting("synchronous_standby_names", "nobody")
    options = "-c highwater.consistency=strong -c highwater.wait_budget=300ms"
    with (
        cluster.primary.connect() as busy,
        psycopg.connect(**proxy.parameters(), options=options, autocommit=True) as client,
    ):
        busy.execute("SET synchronous_commit = local")
        busy.execute("BEGIN")
        end = time.monotonic() + 5
        while time.monotonic() < end:
            busy.execute("INSERT INTO bulk VALUES (1, 'not flushed')")
            began = time.monotonic()
            client.execute("SELECT v FROM counter WHERE id = 1")
            assert time.monotonic() - began < 2
        client.execute("BEGIN; SET LOCAL synchronous_commit = local; UPDATE counter SET v = 9 WHERE id = 9; COMMIT")
        assert client.execute("SELECT v FROM counter WHERE id = 9").fetchone() == (9,)


def test_a_transaction_on_a_standby_moves_when_nobody_vouches_for_it_any_more(cluster: Lab, start: StartProxy) -> None:
    """Its probe connection has been made anew: no answer will ever say what the older connection shows."""
    proxy = start(transaction_reads="standby")
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        client.execute("SET highwater.wait_budget = '10s'")
        client.execute("BEGIN")
        client.execute("SELECT v FROM counter WHERE id = 1")
        row = client.execute("SHOW highwater.last_route").fetchone()
        assert row
        standby = cluster[str(row[0]).split()[0]]
        assert standby is not cluster.primary
        before = proxy.log.count(FOUND.format(standby.name))
        standby.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'highwater probe'"
        )
        until("the probe to be back", lambda: proxy.log.count(FOUND.format(standby.name)) > before)
        began = time.monotonic()
        client.execute("SELECT v FROM counter WHERE id = 1")
        assert time.monotonic() - began < 3
        client.execute("COMMIT")


def test_a_client_that_is_pinned_to_such_a_standby_is_told(cluster: Lab, start: StartProxy) -> None:
    """What pins it is there and nowhere else; it learns so at once, and connects again."""
    proxy = start()
    with psycopg.connect(**proxy.parameters("shop@standby1"), autocommit=True) as client:
        client.execute("PREPARE mine AS SELECT 7")
        assert client.execute("EXECUTE mine").fetchone() == (7,)
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'highwater probe'"
        before = proxy.log.count(FOUND.format("standby1"))
        cluster["standby1"].rows(ended)
        until("the probe to be back", lambda: proxy.log.count(FOUND.format("standby1")) > before)
        began = time.monotonic()
        with pytest.raises(psycopg.OperationalError) as told:
            client.execute("EXECUTE mine")
        assert str(told.value.sqlstate) == "08006"
        assert time.monotonic() - began < 3
        assert client.closed


def test_a_name_that_follows_the_primary(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """The primary under two names is one primary, and takes writes under either."""
    primary, standby = cluster.servers[:2]
    with closing(Address(primary.port)) as name:
        proxy = start(primary, standby, ("writer", name.url))
        clients = join(each, proxy, SESSION | PATIENT)
        for value, client in enumerate(clients, 1):
            ROW.write(client, value)
            assert ROW.read(client) == value
        primary.kill()
        standby.rows("SELECT pg_promote()")
        name.behind = standby.port
        for value, client in enumerate(clients, 10):
            ROW.write(client, value)
            assert client.server() in {"writer", standby.name}
            assert ROW.read(client) == value


def test_a_commit_of_unknown_outcome_is_said_to_be_one(cluster: Lab, start: StartProxy, each: list[Connection]) -> None:
    """Written and not yet acknowledged when the primary dies: done or not, never twice, and never called a failure."""
    clients = join(each, start(), SESSION)
    for client in clients:
        client.run("BEGIN")
        client.run("INSERT INTO bulk VALUES (%s, 'in doubt')", clients.index(client))
    # From now on commits wait for somebody who never comes.
    cluster.primary.setting("synchronous_standby_names", "nobody")
    outcomes: dict[int, str] = {}

    def commit(number: int) -> None:
        try:
            clients[number].run("COMMIT")
            outcomes[number] = "done"
        except SqlError as error:
            outcomes[number] = error.sqlstate

    threads = [threading.Thread(target=commit, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    until("all commits to wait", lambda: cluster.primary.value(waiting) == len(clients))
    cluster.primary.kill()
    for thread in threads:
        thread.join(timeout=20)
    assert len(outcomes) == len(clients)
    assert all(outcome.startswith("08") for outcome in outcomes.values()), outcomes
    cluster["standby1"].rows("SELECT pg_promote()")
    until("the new primary to write", lambda: not cluster["standby1"].value("SELECT pg_is_in_recovery()"))
    assert cluster["standby1"].rows("SELECT id FROM bulk GROUP BY id HAVING count(*) > 1") == []
