"""What operators do to a cluster that people use: switchover, maintenance of a standby, ending a client.

A workload of many clients runs meanwhile, none of which may get an error or see the past.
"""

import threading
import time

import psycopg
import pytest

from conftest import StartProxy
from harness.connection import Target
from harness.drivers import DRIVERS, Driver
from harness.lab import Lab
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

CLIENTS = 24


class Workload:
    """Clients who write and read what they wrote until the block ends.

    They do it by single statements, in transactions, and some on a new connection each time.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._parameters = proxy.parameters()
        self._ended = False
        self.rounds = [0] * CLIENTS
        self.longest = [0.0] * CLIENTS
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._live, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Workload":
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        """Wait until each of them has done another round."""
        before = list(self.rounds)

        def have_gone_on() -> bool:
            return bool(self.failures) or all(now > then for now, then in zip(self.rounds, before, strict=True))

        until("everybody to go on", have_gone_on)
        assert not self.failures, self.failures[:5]

    def _live(self, number: int) -> None:
        kind = (self._singly, self._in_transactions, self._anew)[number % 3]
        try:
            connection = self._connect()
            while not self._ended:
                began = time.monotonic()
                connection = kind(connection, number + 1, self.rounds[number] + 1)
                self.longest[number] = max(self.longest[number], time.monotonic() - began)
                self.rounds[number] += 1
            connection.close()
        except (psycopg.Error, AssertionError) as failure:
            self.failures.append(f"client {number}: {type(failure).__name__}: {failure}")

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(**self._parameters, autocommit=True)

    def _singly(self, connection: psycopg.Connection, row: int, value: int) -> psycopg.Connection:
        connection.execute("UPDATE counter SET v = %s WHERE id = %s", [value, row])
        assert connection.execute("SELECT v FROM counter WHERE id = %s", [row]).fetchone() == (value,)
        return connection

    def _in_transactions(self, connection: psycopg.Connection, row: int, value: int) -> psycopg.Connection:
        with connection.transaction():
            before = connection.execute("SELECT v FROM counter WHERE id = %s", [row]).fetchone()
            assert before == (value - 1,)
            connection.execute("UPDATE counter SET v = %s WHERE id = %s", [value, row])
        return connection

    def _anew(self, connection: psycopg.Connection, row: int, value: int) -> psycopg.Connection:
        connection.close()
        return self._singly(self._connect(), row, value)


def switch_over(proxy: Proxy, cluster: Lab, old: str, new: str) -> None:
    """As docs/failover.md has it."""
    proxy.console(f"PAUSE {old}")
    cluster[old].stop()
    cluster.command("promote", new)
    cluster.command("rewind", old)
    proxy.console(f"RESUME {old}")


def test_a_switchover_there_and_back(cluster: Lab, start: StartProxy) -> None:
    proxy = start()
    with Workload(proxy) as workload:
        for old, new in (("primary", "standby1"), ("standby1", "primary")):
            switch_over(proxy, cluster, old, new)
            until("the new primary to be seen", lambda new=new: proxy.server(new)["role"] == "primary")
            until("the old one to be a standby", lambda old=old: proxy.server(old)["role"] == "standby")
            workload.goes_on()
    assert workload.failures == []
    assert proxy.stat("losses_told") == 0
    print(f"{sum(workload.rounds)} rounds; the longest took {max(workload.longest):.2f} s")


def test_all_at_rest(cluster: Lab, start: StartProxy) -> None:
    """PAUSE without a name: nothing runs anywhere, and whoever comes meanwhile waits."""
    proxy = start()
    with Workload(proxy) as workload:
        proxy.console("PAUSE")
        assert [server["busy"] for server in proxy.console("SHOW SERVERS")] == ["0"] * 3
        rounds = list(workload.rounds)
        sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'"
        for server in cluster.servers:
            until(f"nobody to be on {server.name}", lambda server=server: server.value(sql) == 0)
        cluster.primary.stop()
        cluster.primary.start()
        assert [now - then for now, then in zip(workload.rounds, rounds, strict=True)] == [0] * CLIENTS
        proxy.console("RESUME")
        workload.goes_on()
    assert workload.failures == []


def test_a_standby_is_taken_out_and_brought_back(cluster: Lab, start: StartProxy) -> None:
    proxy = start()
    with Workload(proxy) as workload:
        for standby in cluster.standbys:
            proxy.console(f"DRAIN {standby.name}")
            assert proxy.server(standby.name)["traffic"] == "draining"
            standby.stop()
            workload.goes_on()
            standby.start()
            until("it to be known again", lambda standby=standby: proxy.server(standby.name)["role"] == "standby")
            proxy.console(f"RESUME {standby.name}")
            until("it to be used", lambda standby=standby: reads_on(proxy, standby.name))
        workload.goes_on()
    assert workload.failures == []


def reads_on(proxy: Proxy, name: str) -> int:
    """How many connections are open there: drained servers have none."""
    pools = [pool for pool in proxy.console("SHOW POOLS") if pool["server"] == name]
    return sum(int(pool["sv_idle"]) + int(pool["sv_active"]) for pool in pools)


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: driver.name)
def test_a_write_waits_for_the_end_of_a_pause(start_proxy: StartProxy, row: Row, driver: Driver) -> None:
    proxy = start_proxy()
    client = driver.open(Target(proxy.port))
    row.write(client, 1)
    proxy.console("PAUSE primary")
    assert row.read(client) == 1, "standbys go on"
    resuming = threading.Timer(0.5, lambda: proxy.console("RESUME primary"))
    resuming.start()
    began = time.monotonic()
    row.write(client, 2)
    assert time.monotonic() - began > 0.4
    assert row.read(client) == 2
    resuming.join()
    client.close()


def test_a_pause_has_limits(start_proxy: StartProxy) -> None:
    """Both for those who wait in it and for those who hold it up."""
    proxy = start_proxy(pause_timeout="200ms")
    with (
        psycopg.connect(**proxy.parameters()) as holder,
        psycopg.connect(**proxy.parameters(), autocommit=True) as other,
    ):
        holder.execute("UPDATE counter SET v = 1 WHERE id = -1")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="1 connections .* still in use") as told:
            proxy.console("PAUSE primary TIMEOUT 100ms")
        assert f"by clients {holder.info.backend_pid}" in str(told.value)
        with pytest.raises(psycopg.errors.CannotConnectNow, match="paused"):
            other.execute("UPDATE counter SET v = 1 WHERE id = -2")
        # What runs there may end.
        holder.commit()
        proxy.console("PAUSE primary")
        proxy.console("RESUME")
        other.execute("UPDATE counter SET v = 1 WHERE id = -2")


def test_a_client_is_ended(start_proxy: StartProxy) -> None:
    proxy = start_proxy()
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        proxy.console(f"KILL {client.info.backend_pid}")
        with pytest.raises(psycopg.errors.AdminShutdown):
            client.execute("SELECT 1")


def test_new_connections_take_the_place_of_all(cluster: Lab, start: StartProxy) -> None:
    """Of those in use when nobody uses them any more, and no client notices."""
    proxy = start()

    def opened() -> set[tuple[str, int]]:
        pids = "SELECT pid FROM pg_stat_activity WHERE usename = 'app'"
        return {(server.name, pid) for server in cluster.servers for (pid,) in server.rows(pids)}

    with psycopg.connect(**proxy.parameters(), autocommit=True) as busy, Workload(proxy) as workload:
        busy.execute("BEGIN; UPDATE counter SET v = v WHERE id = -1")
        used = cluster.primary.value("SELECT pid FROM pg_stat_activity WHERE query LIKE 'BEGIN; UPDATE%'")
        before = opened()
        assert len({name for name, _ in before}) > 1
        proxy.console("RECONNECT")
        workload.goes_on()
        until("the others to end", lambda: before & opened() == {("primary", used)})
        busy.execute("COMMIT")
        until("it to end as well", lambda: not before & opened())
        workload.goes_on()
        busy.execute("UPDATE counter SET v = v WHERE id = -1")
    assert workload.failures == []


MISTAKES: list[tuple[str, str]] = [
    ("PAUSE moon", "there is no server"),
    ("PAUSE primary standby1", "one server"),
    ("DRAIN", "unknown command"),
    ("DRAIN primary", "is the primary"),
    ("PAUSE TIMEOUT soon", "is no time"),
    ("RECONNECT standby1", "unknown command"),
    ("KILL everybody", "KILL takes a pid"),
    ("KILL 1", "there is no client 1"),
]


@pytest.mark.parametrize(("command", "complaint"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_mistakes_are_explained(proxy: Proxy, command: str, complaint: str) -> None:
    with pytest.raises(psycopg.Error, match=complaint):
        proxy.console(command)
    assert {server["traffic"] for server in proxy.console("SHOW SERVERS")} == {"open"}
