"""A standby is promoted: what was kept, what was lost and told, and whom nobody may write to any more.

Every test has a cluster of its own, because a promotion cannot be undone, and clients of every driver at once.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest

from conftest import StartProxy
from harness.address import Address
from harness.connection import Connection, SqlError, Target
from harness.drivers import DRIVERS
from harness.forgery import forged
from harness.lab import Lab, Server
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

STANDBYS = {"standby1", "standby2"}
LOST = "the cluster has failed over, and what this session wrote or saw may be lost"
CLIENTS = 50


class Everyone:
    """A client of each driver, each with a row of its own."""

    def __init__(self, proxy: Proxy) -> None:
        settings = {"highwater.consistency": "session", "highwater.wait_budget": "10s"}
        target = Target(proxy.port, settings=settings)
        self.clients = [(driver.open(target), Row(number)) for number, driver in enumerate(DRIVERS, 1)]

    def __iter__(self) -> Iterator[tuple[Connection, Row]]:
        return iter(self.clients)

    def write(self, value: int) -> None:
        """Write, and have the session measured."""
        for client, row in self:
            row.write(client, value)
            assert client.token()

    def write_safely(self, value: int, cluster: Lab) -> None:
        """The same, and all of it is on the standbys, to the very end of the log: positions are upper bounds."""
        self.write(value)
        cluster.primary.rows("UPDATE counter SET v = v WHERE id = %s", CLIENTS)
        cluster.settle()

    def close(self) -> None:
        for client, _ in self:
            client.close()


@pytest.fixture
def meet() -> Iterator[type[Everyone]]:
    """Everyone at a proxy, until the test ends."""
    met: list[Everyone] = []

    def everyone(proxy: Proxy) -> Everyone:
        met.append(Everyone(proxy))
        return met[-1]

    yield everyone
    for group in met:
        group.close()


def cut_off(*standbys: Server) -> None:
    """What the primary writes from now on does not reach them."""
    sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    for standby in standbys:
        standby.setting("primary_conninfo", "host=127.0.0.1 port=1")
        until(f"{standby.name} to be cut off", lambda standby=standby: standby.value(sql) == 0)


def fail_over(cluster: Lab) -> None:
    """The primary dies, and a standby takes its place."""
    cluster.primary.kill()
    cluster.command("promote", "standby1")


def test_sessions_outlive_the_primary(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    """All was replicated: the clients notice nothing, read what they wrote, and write on."""
    everyone = meet(start())
    everyone.write_safely(1, cluster)
    fail_over(cluster)
    for client, row in everyone:
        assert row.read(client) == 1
        row.write(client, 2)
        assert row.read(client) == 2
        assert client.server() in STANDBYS
        assert client.notices == []
        assert row.read(cluster["standby1"]) == 2


def test_what_was_lost_is_told_first(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    everyone = meet(start())
    cut_off(*cluster.standbys)
    everyone.write(1)
    fail_over(cluster)
    for client, row in everyone:
        assert row.read(client) == 0, "lost"
        assert [LOST in notice for notice in client.notices] == [True], client.notices
        client.notices.clear()
        row.write(client, 2)
        assert row.read(client) == 2
        assert client.notices == [], "told once"


def test_who_came_when_there_was_no_primary_has_lost_nothing(
    cluster: Lab, start: StartProxy, meet: type[Everyone]
) -> None:
    """Keys that nobody here knows: what they have seen elsewhere is not known, and neither is a loss of it."""
    proxy = start()
    everyone = meet(proxy)
    everyone.write_safely(1, cluster)
    cluster.primary.kill()
    until("the primary to be missed", lambda: proxy.server("primary")["trouble"])
    for client, row in everyone:
        client.run(f"SET highwater.session = 'user-{row.id}'")
    cluster.command("promote", "standby1")
    for client, row in everyone:
        assert row.read(client) == 1
        assert client.notices == []


def test_what_was_lost_may_be_an_error(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    proxy = start(lost_writes="error")
    everyone = meet(proxy)
    cut_off(*cluster.standbys)
    everyone.write(1)
    fail_over(cluster)
    for client, row in everyone:
        with pytest.raises(SqlError) as told:
            row.read(client)
        assert told.value.sqlstate == "08006"
        # psql says all in one text.
        assert LOST in told.value.message
        assert row.read(client) == 0
    assert proxy.stat("losses_told") == len(DRIVERS)


@pytest.mark.parametrize("is_lost", [False, True], ids=["kept", "lost"])
def test_tokens_from_before(cluster: Lab, start: StartProxy, meet: type[Everyone], is_lost: bool) -> None:
    """Another process, which has seen nothing of the failover, takes them."""
    if is_lost:
        cut_off(*cluster.standbys)
    before = meet(start())
    if is_lost:
        before.write(1)
    else:
        before.write_safely(1, cluster)
    tokens = [client.token() for client, _ in before]
    fail_over(cluster)
    after = meet(start(cluster["standby1"], cluster["standby2"]))
    for token, (client, row) in zip(tokens, after, strict=True):
        client.run(f"SET highwater.token = '{token}'")
        assert row.read(client) == (0 if is_lost else 1)
        assert [LOST in notice for notice in client.notices] == [True] * is_lost, client.notices


def test_a_deposed_primary_gets_nothing(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    """It does not know that it is deposed, and would take every write."""
    proxy = start()
    everyone, caught = meet(proxy), meet(proxy)
    for client, row in caught:
        client.run("BEGIN")
        row.write(client, 1)
    cluster.command("promote", "standby1")
    until("the proxy to see the new primary", lambda: proxy.server("standby1")["role"] == "primary")
    for client, row in caught:
        with pytest.raises(SqlError) as told:
            client.run("COMMIT")
        # asyncpg only says that the connection was closed.
        assert told.value.sqlstate in ("08006", "08003")
        assert row.read(cluster["primary"]) == 0
    for client, row in everyone:
        row.write(client, 2)
        assert row.read(client) == 2
        assert row.read(cluster["primary"]) == 0


def test_what_a_deposed_primary_calls_done_is_not(cluster: Lab, start: StartProxy) -> None:
    """A write reaches it, it is cut off, another one takes its place, and then its answer arrives after all."""
    old, new = cluster.primary, cluster["standby1"]
    with closing(Address(old.port)) as address, ExitStack() as stack:
        proxy = start(("primary", address.url), *cluster.standbys)
        outcomes: dict[str, str] = {}

        def write(name: str, client: Connection, row: Row) -> None:
            try:
                # It begins while the way back is open, and ends when it is not.
                client.run(f"UPDATE counter SET v = 1 FROM pg_sleep(1.5) WHERE id = {row.id}")
                outcomes[name] = "done"
            except SqlError as error:
                outcomes[name] = error.sqlstate

        clients = []
        for number, driver in enumerate(DRIVERS, 1):
            client = stack.enter_context(closing(driver.open(Target(proxy.port))))
            clients.append((driver.name, client, Row(number)))
        threads = [threading.Thread(target=write, args=args) for args in clients]
        for thread in threads:
            thread.start()
        running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        until("the writes to run", lambda: old.value(running) == len(clients))
        with address.silent():
            until("the writes to be done", lambda: old.value(running) == 0)
            assert all(row.read(old) == 1 for _, _, row in clients)
            cut_off(*cluster.standbys)
            new.rows("SELECT pg_promote()")
            until("the proxy to see it", lambda: proxy.server(new.name)["role"] == "primary")
        for thread in threads:
            thread.join(timeout=20)
    assert {name: outcome[:2] for name, outcome in outcomes.items()} == {driver.name: "08" for driver in DRIVERS}


def test_two_claimants_get_nothing(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    """Whichever took a write, the other one might be the one that stays."""
    proxy = start(failover_wait="500ms", visibility_timeout="500ms")
    everyone = meet(proxy)
    everyone.write_safely(1, cluster)
    cluster.primary.kill()
    for standby in cluster.standbys:
        standby.rows("SELECT pg_promote()")
        name = standby.name
        until(f"the proxy to see {name}", lambda name=name: proxy.server(name)["role"] == "primary")
    for client, row in everyone:
        with pytest.raises(SqlError) as told:
            row.write(client, 2)
        assert told.value.sqlstate == "57P03"
    cluster["standby2"].kill()
    for client, row in everyone:
        until("writes to go on", lambda client=client, row=row: writes(client, row, 3))
        assert row.read(cluster["standby1"]) == 3


def writes(client: Connection, row: Row, value: int) -> bool:
    """Whether there is a primary to write on."""
    try:
        row.write(client, value)
    except SqlError as refused:
        assert refused.sqlstate == "57P03"  # noqa: PT017
        return False
    return True


def test_a_write_waits_for_the_new_primary(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    everyone = meet(start())
    everyone.write_safely(1, cluster)
    cluster.primary.kill()
    promoting = threading.Timer(1, lambda: cluster.command("promote", "standby1"))
    promoting.start()
    for client, row in everyone:
        row.write(client, 2)
        assert row.read(cluster["standby1"]) == 2
    promoting.join()


def test_a_held_connection_tells_of_a_promotion_before_any_probe_does(cluster: Lab, start: StartProxy) -> None:
    """What the client has seen there may be of the new timeline: nothing may be written on the old one any more."""
    rare = {"probe_interval": "30s", "probe_interval_idle": "30s", "evidence_age_max": "60s"}
    proxy = start(**rare)
    with psycopg.connect(**proxy.parameters(), autocommit=True) as ann, psycopg.connect(**proxy.parameters()) as bob:
        ann.execute("SET highwater.consistency = 'eventual'")
        ann.execute("BEGIN READ ONLY")
        ann.execute("SELECT v FROM counter")
        (route,) = ann.execute("SHOW highwater.last_route").fetchone() or ("",)
        promoted = str(route).split()[0]
        assert promoted.startswith("standby")
        cluster.command("promote", promoted)
        ann.execute("SELECT v FROM counter")
        bob.execute("UPDATE counter SET v = 5 WHERE id = 1")
        bob.commit()
    assert cluster[promoted].rows("SELECT v FROM counter WHERE id = 1") == [(5,)]


def test_a_failover_under_fifty_clients(cluster: Lab, start: StartProxy) -> None:
    """Idle ones notice nothing, those in a transaction are told that it is gone, and the gap is short."""
    address = f"host=127.0.0.1 port={start().port} dbname=shop user=app password=app"
    clients = [psycopg.connect(address, autocommit=True) for _ in range(CLIENTS)]
    write, read = "UPDATE counter SET v = %s WHERE id = %s", "SELECT v FROM counter WHERE id = %s"
    for number, client in enumerate(clients, 1):
        client.execute(write, [1, number])
        client.execute("SHOW highwater.token")
    cluster.settle()
    busy, idle = clients[:5], clients[5:]
    for number, client in enumerate(busy, 1):
        client.execute("BEGIN")
        client.execute(write, [2, number])
    cluster.primary.kill()
    killed = time.monotonic()
    cluster.command("promote", "standby1")
    promoted = time.monotonic()
    idle[0].execute(write, [3, 6])
    gap = time.monotonic() - promoted
    print(f"promotion {promoted - killed:.2f} s, first write {gap:.2f} s after it")
    assert gap < 1
    for client in busy:
        with pytest.raises(psycopg.OperationalError):
            client.execute("COMMIT")
    for number, client in enumerate(idle[1:], 7):
        assert client.execute(read, [number]).fetchone() == (1,)
    for client in clients:
        client.close()


def test_a_token_waits_for_the_new_primary(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    """Nobody can say whether it is good while there is none; without it the session would be shown the past."""
    cut_off(*cluster.standbys)
    before = meet(start())
    before.write(1)
    tokens = [client.token() for client, _ in before]
    proxy = start()
    after = meet(proxy)
    cluster.primary.kill()
    until("the proxy to miss the primary", lambda: proxy.server("primary")["role"] == "unknown")
    promoting = threading.Timer(1.5, lambda: cluster.command("promote", "standby1"))
    promoting.start()
    for token, (client, row) in zip(tokens, after, strict=True):
        client.run(f"SET highwater.token = '{token}'")
        assert row.read(client) == 0, "lost"
        assert [LOST in notice for notice in client.notices] == [True], client.notices
    promoting.join()


def test_a_token_that_nobody_can_verify_is_an_error(cluster: Lab, start: StartProxy, meet: type[Everyone]) -> None:
    """What the primary is known to have had is believed without it; the rest is not, and not left out in silence."""
    proxy = start(failover_wait="300ms")
    everyone = meet(proxy)
    everyone.write_safely(1, cluster)
    tokens = [client.token() for client, _ in everyone]
    cluster.primary.kill()
    until("the proxy to miss the primary", lambda: proxy.server("primary")["role"] == "unknown")
    for token, (client, row) in zip(tokens, everyone, strict=True):
        client.run("SET highwater.session = ''")
        client.run(f"SET highwater.token = '{token}'")
        assert row.read(client) == 1
        with pytest.raises(SqlError) as told:
            client.run(f"SET highwater.token = '{forged(token, lsn=1 << 40)}'")
        assert told.value.sqlstate == "57P03"
        assert client.notices == []
