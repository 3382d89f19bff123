"""Servers that die, stay away, or come back in the past. Each test has a proxy of its own."""

import socket
import threading

import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, SqlError
from harness.lab import Lab, paused
from harness.schema import Row
from harness.waiting import until

SESSION = {"highwater.consistency": "session"}
STANDBYS = {"standby1", "standby2"}


def test_a_standby_killed_between_two_reads(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    """The only other standby has the past; the session has seen the present."""
    client = connect(start_proxy(), settings=SESSION | PATIENT)
    with paused(lab["standby1"]):
        row.write(lab.primary, 1)
        assert row.read_strongly(client) == 1
        client.run("SET highwater.wait_budget = '50ms'")
        with lab["standby2"].down():
            for _ in range(5):
                assert row.read(client) == 1
                assert client.server() == "primary"
    until("standbys to serve again", lambda: row.read(client) == 1 and client.server() in STANDBYS)


def test_a_standby_killed_under_a_read(lab: Lab, start_proxy: StartProxy, connect: Connect) -> None:
    """Nothing of the answer was sent yet, so the read runs again elsewhere and the client does not notice."""
    proxy = start_proxy()
    client = connect(proxy, settings={"highwater.consistency": "eventual"})
    answer: list[int] = []
    read = "SELECT /* under way */ count(*)::int FROM generate_series(1, 4000000)"
    thread = threading.Thread(target=lambda: answer.append(client.value(read)))
    thread.start()
    sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%/* under way */%' AND pid <> pg_backend_pid()"
    running = until("the read to run", lambda: [server for server in lab.standbys if server.value(sql)])
    with running[0].down():
        thread.join(timeout=30)
        assert answer == [4_000_000]
        assert client.server() != running[0].name
    assert proxy.stat("retries") == 1


def test_a_standby_that_comes_back_in_the_past(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    """After a crash a standby accepts reads behind what it has shown, with an unchanged start time."""
    client = connect(start_proxy(), settings=SESSION | PATIENT)
    standby1, standby2 = lab.standbys
    # Where its recovery will begin: it must know the table and the row by then.
    lab.primary.rows("CHECKPOINT")
    lab.settle()
    standby1.rows("CHECKPOINT")
    with paused(standby2):
        row.write(lab.primary, 1)
        assert row.read_strongly(client) == 1
        client.run("SET highwater.wait_budget = '50ms'")
        assert client.server() == "standby1"
        with standby1.with_setting("recovery_min_apply_delay", "1h"):
            standby1.crash()
            # The control: it shows the past.
            assert row.read(standby1) == 0
            for _ in range(10):
                assert row.read(client) == 1
                assert client.server() == "primary"


def test_all_standbys_down(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy()
    client = connect(proxy)
    assert row.read(client) == 0
    with lab["standby1"].down(), lab["standby2"].down():
        for value in range(1, 6):
            row.write(client, value)
            assert row.read(client) == value
            assert client.server() == "primary"
        assert client.route().reason == "no_healthy_standby"
    until("standbys to serve again", lambda: row.read(client) == 5 and client.server() in STANDBYS)


def test_the_primary_down(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(consistency="session", visibility_timeout="500ms", failover_wait="500ms")
    client = connect(proxy, settings={"highwater.wait_budget": "500ms"})
    assert row.read(client) == 0
    with lab.primary.down():
        # What was seen is still to be had.
        assert row.read(client) == 0
        with pytest.raises(SqlError) as refused:
            row.write(client, 1)
        assert refused.value.sqlstate[:2] in ("08", "57")
        again = connect(proxy, settings={"highwater.wait_budget": "500ms"})
        assert row.read(again) == 0
        # Nobody can say what is fresh.
        again.run("SET highwater.consistency = 'strong'")
        with pytest.raises(SqlError) as refused:
            row.read(again)
        assert refused.value.sqlstate[:2] in ("08", "57")
        again.run("SET highwater.consistency = 'eventual'")
        assert row.read(again) == 0

    def writes_again() -> bool:
        try:
            row.write(connect(proxy), 2)
            return True
        except SqlError:
            return False

    until("writes to work again", writes_again)
    assert row.read(connect(proxy, settings={"highwater.consistency": "strong"})) == 2


def test_a_write_under_way_when_the_primary_dies_is_not_repeated(
    lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    client = connect(start_proxy())
    outcome: list[str] = []

    def write() -> None:
        try:
            client.run(f"UPDATE counter SET v = v + 1 FROM pg_sleep(60) WHERE id = {row.id}")
        except SqlError as error:
            outcome.append(error.sqlstate)

    thread = threading.Thread(target=write)
    thread.start()
    sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FROM pg_sleep(60)%' AND pid <> pg_backend_pid()"
    until("the write to run", lambda: lab.primary.value(sql))
    with lab.primary.down():
        thread.join(timeout=20)
    # An honest answer, in whatever words the driver has for it.
    assert outcome
    assert outcome[0][:2] == "08"
    assert row.read(lab.primary) == 0


def test_a_server_that_cannot_be_reached_at_start(
    lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    with socket.socket() as nobody:
        # Bound and not listening: connections are refused, and nobody else takes the port.
        nobody.bind(("127.0.0.1", 0))
        url = f"postgres://highwater:highwater@127.0.0.1:{nobody.getsockname()[1]}/shop"
        proxy = start_proxy(*lab.servers, ("nobody", url))
        client = connect(proxy)
        for value in range(1, 6):
            row.write(client, value)
            assert row.read(client) == value


def test_a_server_that_never_answers(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgres://highwater:highwater@127.0.0.1:{silent.getsockname()[1]}/shop"
        proxy = start_proxy(*lab.servers, ("silent", url), connect_timeout="300ms")
        client = plain(proxy)
        for value in range(1, 6):
            row.write(client, value)
            assert row.read(client) == value


def test_nothing_can_be_reached_at_start(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = None
    with lab.primary.down(), lab["standby1"].down(), lab["standby2"].down():
        proxy = start_proxy(*lab.servers, wait_for="listening", login_timeout="1s", wait_budget="300ms")
        assert proxy.pid

    def works() -> bool:
        try:
            return row.read(plain(proxy)) == 0
        except Exception:
            return False

    until("the proxy to find its servers", works)


def test_a_stranger_among_the_servers_gets_nothing(
    lab: Lab, other_lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row
) -> None:
    """A server of another cluster is no primary of ours, whatever it says of itself."""
    proxy = start_proxy(*lab.servers, ("stranger", other_lab.primary.url))
    client = plain(proxy, settings=SESSION)
    for value in range(1, 6):
        row.write(client, value)
        assert row.read(client) == value
        assert client.server() != "stranger"
    assert row.read(lab.primary) == 5


def test_replay_conflicts_are_not_the_clients_trouble(
    lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    """A standby that must cancel a read to go on replaying: the read runs again elsewhere."""
    proxy = start_proxy(*lab.servers[:2])
    proxy.until_it_sees(lab.servers[:2])
    standby = lab["standby1"]
    client = connect(proxy, settings={"highwater.consistency": "eventual"})
    answer: list[int] = []
    read = f"SELECT /* in the way */ count(*)::int FROM counter, generate_series(1, 4000000) WHERE id = {row.id}"
    with standby.with_setting("max_standby_streaming_delay", "0"):
        thread = threading.Thread(target=lambda: answer.append(client.value(read)))
        thread.start()
        sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%/* in the way */%' AND pid <> pg_backend_pid()"
        until("the read to run on the standby", lambda: standby.value(sql))
        with lab.primary.connect() as direct, direct.transaction():
            direct.execute("LOCK TABLE counter IN ACCESS EXCLUSIVE MODE")
        thread.join(timeout=30)
    assert answer == [4_000_000]
    assert client.server() == "primary"
    assert proxy.stat("retries") == 1
