"""A session sees what it wrote and never less than it saw: on one connection, over several, over several proxies.

Lag is made by pausing replay, so every test that would fail on a blind proxy fails on each run.
"""

from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, Connection
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

SESSION = {"highwater.consistency": "session"}


@pytest.mark.parametrize("level", ["strong", "session"])
def test_own_writes_are_read(lab: Lab, proxy: Proxy, connect: Connect, row: Row, level: str) -> None:
    client = connect(proxy, settings={"highwater.consistency": level} | PATIENT)
    servers = set()
    with paused(lab["standby1"]):
        for value in range(1, 21):
            row.write(client, value)
            assert row.read(client) == value
            servers.add(client.server())
        assert row.read(lab["standby1"]) == 0
    assert "standby1" not in servers
    assert "standby2" in servers


def test_own_writes_are_read_when_no_standby_has_them(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION)
    with paused(*lab.standbys):
        row.write(client, 1)
        assert row.read(client) == 1
        assert client.server() == "primary"


def test_reads_never_go_back(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION | PATIENT)
    with paused(lab["standby1"]):
        row.write(lab.primary, 1)
        # Whoever has seen nothing may get the old state; from the first new one on it stays.
        assert row.read_strongly(client) == 1
        for _ in range(20):
            assert row.read(client) == 1
            assert client.server() != "standby1"


def test_reads_never_go_back_under_load(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    def count_up() -> None:
        with lab.primary.connect() as direct:
            for _ in range(1000):
                direct.execute("UPDATE counter SET v = v + 1 WHERE id = %s", (row.id,))

    client = connect(proxy, settings=SESSION)
    seen = [0]
    servers = set()
    with ThreadPoolExecutor() as pool:
        writer = pool.submit(count_up)
        while not writer.done() or seen[-1] < 1000:
            seen.append(row.read(client))
            servers.add(client.server())
        writer.result()
    assert seen == sorted(seen)
    assert servers & {"standby1", "standby2"}


def test_a_token_carries_the_session_to_another_connection(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    writer, bearer, stranger = (connect(proxy, settings=SESSION) for _ in range(3))
    with paused(*lab.standbys):
        row.write(writer, 1)
        token = writer.token()
        bearer.run(f"SET highwater.token = '{token}'")
        assert row.read(bearer) == 1
        # The control: without the token nothing binds the read to the write.
        assert row.read(stranger) == 0


def test_a_token_at_start_is_as_good(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    writer = connect(proxy, settings=SESSION)
    with paused(*lab.standbys):
        row.write(writer, 1)
        bearer = connect(proxy, settings={"highwater.token": writer.token()})
        assert row.read(bearer) == 1


def test_a_token_carries_what_was_read(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    reader = connect(proxy, settings=SESSION | PATIENT)
    with paused(lab["standby1"]):
        row.write(lab.primary, 1)
        assert row.read_strongly(reader) == 1
        token = reader.token()
        for _ in range(5):
            bearer = connect(proxy, settings={"highwater.token": token})
            assert row.read(bearer) == 1


def introduce(client: Connection, row: Row, lab: Lab) -> None:
    """Let standbys pass what a session has seen: positions are upper bounds, so something behind them must arrive."""
    assert row.read(client) == 0
    row.write(lab.primary, 0)
    lab.settle()
    until("a standby to answer", lambda: row.read(client) == 0 and client.server() != "primary")


def test_a_key_names_the_session_on_every_connection(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    key, other = ({"highwater.session": f"{name}-{row.id}"} for name in ("user", "other"))
    introduce(connect(proxy, settings=other), row, lab)
    with paused(*lab.standbys):
        row.write(connect(proxy, settings=key), 1)
        assert row.read(connect(proxy, settings=key)) == 1
        assert row.read(connect(proxy, settings=other)) == 0


def test_a_key_that_a_process_does_not_know_sees_what_is_there(
    lab: Lab, proxy: Proxy, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    """What it has seen, another process may know, or the one that this one has replaced."""
    key, there = {"highwater.session": f"user-{row.id}"}, start_proxy()
    with paused(*lab.standbys):
        row.write(connect(proxy, settings=key), 1)
        for _ in range(2):
            assert row.read(connect(there, settings=key)) == 1
        row.write(lab.primary, 2)
        assert row.read(connect(there, settings={"highwater.session": f"other-{row.id}"})) == 2
    reader = connect(there, settings=key | PATIENT)
    assert row.read(reader) == 2
    assert reader.server() != "primary", "from there on it is a session as any other"


def test_a_key_that_a_process_does_not_know_is_held_up_by_nobody(
    lab: Lab, proxy: Proxy, connect: Connect, row: Row
) -> None:
    """Neither by standbys that are late, nor by a transaction that somebody has left open."""
    with paused(*lab.standbys), lab.primary.connect() as direct:
        direct.autocommit = False
        direct.execute("INSERT INTO bulk VALUES (1, 'x')")
        for name, read in (("reader", True), ("writer", False)):
            client = connect(proxy, settings={"highwater.session": f"{name}-{row.id}"})
            if read:
                assert row.read(client) == 0
            row.write(client, 1)
            assert row.read(client) == 1
            row.write(client, 0)
        direct.rollback()


def test_a_connection_that_switches_keys_does_not_inherit(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION)
    client.run(f"SET highwater.session = 'bob-{row.id}'")
    introduce(client, row, lab)
    with paused(*lab.standbys):
        client.run(f"SET highwater.session = 'alice-{row.id}'")
        row.write(client, 1)
        client.run(f"SET highwater.session = 'bob-{row.id}'")
        assert row.read(client) == 0
        client.run(f"SET highwater.session = 'alice-{row.id}'")
        assert row.read(client) == 1
        client.run("SET highwater.session = ''")
        assert row.read(client) == 0


def test_a_token_carries_the_session_to_another_proxy(
    lab: Lab, proxy: Proxy, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    writer, there = connect(proxy, settings=SESSION), start_proxy()
    with paused(*lab.standbys):
        row.write(writer, 1)
        bearer = connect(there, settings={"highwater.token": writer.token()})
        assert row.read(bearer) == 1
        assert row.read(connect(there, settings=SESSION)) == 0


def test_strong_reads_need_no_token_even_over_two_proxies(
    lab: Lab, proxy: Proxy, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    here, there = connect(proxy), connect(start_proxy())
    with paused(lab["standby1"]):
        for value in range(1, 11):
            row.write(here, value)
            assert row.read(there) == value
    with paused(*lab.standbys):
        row.write(here, 11)
        assert row.read(there) == 11
