"""Servers that die, are replaced, lose what they had: each test has a cluster of its own, and the site moves there."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections
from django.test import Client, RequestFactory

from django_highwater import wait_for_replicas
from django_highwater.carrying import session_of
from django_highwater.seeing import recorded
from django_highwater.session import entered
from harness.lab import Lab, Server
from harness.proxy import Proxy
from harness.schema import SCHEMA
from harness.waiting import until


@pytest.fixture
def cluster(site: None) -> Iterator[Lab]:
    """A primary and two standbys with the site's tables."""
    lab = Lab(standbys=2, is_brief=True)
    lab.primary.rows(SCHEMA)
    yield lab
    lab.close()


@pytest.fixture
def start(cluster: Lab, tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Moves the site's one alias to a new Highwater before that cluster."""
    from django.core.management import call_command

    settings = connections["default"].settings_dict
    port, proxies = settings["PORT"], []

    def start(present: list[Server] | None = None, **options: Any) -> Proxy:
        proxies.append(Proxy(tmp_path, cluster.servers, **options))
        proxies[-1].until_it_sees(present or cluster.servers)
        connections.close_all()
        settings["PORT"] = str(proxies[-1].port)
        call_command("migrate", verbosity=0)
        if present is None:
            cluster.settle()
        return proxies[-1]

    yield start
    connections.close_all()
    settings["PORT"] = port
    for proxy in proxies:
        proxy.stop()


def cut_off(*standbys: Server) -> None:
    """What the primary writes from now on does not reach them."""
    sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    for standby in standbys:
        standby.setting("primary_conninfo", "host=127.0.0.1 port=1")
        until(f"{standby.name} to be cut off", lambda standby=standby: standby.value(sql) == 0)


def things(client: Client) -> Any:
    """What the list shows."""
    return client.get("/wishes/mine/").json()


def test_replicas_that_die_and_come_back_cost_nobody_anything(cluster: Lab, start: Callable[..., Proxy]) -> None:
    """No error, and no step back, for a browser that writes and reads all the while."""
    start()
    client = Client()
    seen = 0
    for standby in cluster.standbys:
        standby.kill()
        for _ in range(10):
            client.post("/wish/", {"thing": "x"})
            assert len(things(client)) == (seen := seen + 1)
        standby.start()
        for _ in range(10):
            assert len(things(client)) == seen
    until("the replicas to be used again", lambda: _is_on_standby(client))


def test_replicas_that_are_replaced_and_added_cost_nobody_anything(cluster: Lab, start: Callable[..., Proxy]) -> None:
    """One is made anew from a base backup; the other one is not there yet when Highwater starts."""
    replaced, added = cluster.standbys
    added.stop()
    start([cluster.primary, replaced])
    client = Client()
    seen = 0
    rebuilding = threading.Thread(target=cluster.command, args=("rebuild", replaced.name))
    rebuilding.start()
    while rebuilding.is_alive():
        client.post("/wish/", {"thing": "x"})
        assert len(things(client)) == (seen := seen + 1)
    added.start()
    for _ in range(20):
        client.post("/wish/", {"thing": "x"})
        assert len(things(client)) == (seen := seen + 1)
    replaced.stop()

    def is_on_added() -> bool:
        with recorded() as statements:
            assert len(things(client)) == seen
        return {statement.server for statement in statements} == {added.name}

    until("the replica that was added to be used", is_on_added)


def _is_on_standby(client: Client) -> bool:
    with recorded() as statements:
        things(client)
    return not any(statement.is_on_primary for statement in statements)


@pytest.mark.parametrize("waits_first", [False, True])
def test_a_failover_that_lost_something_is_told(
    cluster: Lab, start: Callable[..., Proxy], caplog: pytest.LogCaptureFixture, waits_first: bool
) -> None:
    """Old positions neither block nor pass for good, and the application hears of it."""
    from django_highwater.signals import writes_lost

    told: list[Any] = []

    def hear(**said: Any) -> None:
        told.append(said)

    start()
    client = Client()
    client.post("/wish/", {"thing": "kept"})
    cluster.settle()
    cut_off(*cluster.standbys)
    client.post("/wish/", {"thing": "lost"})
    connection.close()
    cluster.primary.kill()
    cluster.command("promote", "standby1")
    writes_lost.connect(hear)
    try:
        if waits_first:
            token = client.cookies["highwater"].value
            with entered(session_of(RequestFactory().get("/", headers={"Cookie": f"highwater={token}"}))):
                wait_for_replicas(1)
        assert things(client) == ["kept"]
    finally:
        writes_lost.disconnect(hear)
    # Whoever brings the old position again is told again.
    assert [said["alias"] for said in told] == ["default"] * (1 + waits_first)
    assert told[0]["detail"].startswith("It was on timeline 1")
    assert "may be lost" in caplog.text
    client.post("/wish/", {"thing": "new"})
    assert things(client) == ["kept", "new"]


def test_a_failover_that_lost_nothing_goes_unnoticed(
    cluster: Lab, start: Callable[..., Proxy], caplog: pytest.LogCaptureFixture
) -> None:
    start()
    client = Client()
    client.post("/wish/", {"thing": "x"})
    # Positions are upper bounds: something behind them has to arrive as well.
    cluster.primary.rows("UPDATE counter SET v = v")
    cluster.settle()
    cluster.primary.kill()
    cluster.command("promote", "standby1")
    assert things(client) == ["x"]
    client.post("/wish/", {"thing": "y"})
    assert things(client) == ["x", "y"]
    assert caplog.text.count("may be lost") == 0


def test_asynchronous_commits_are_read_all_the_same(cluster: Lab, start: Callable[..., Proxy]) -> None:
    start()
    client = Client()
    with cluster.primary.with_setting("synchronous_commit", "off"):
        connection.close()
        for number in range(1, 21):
            client.post("/wish/", {"thing": "x"})
            assert len(things(client)) == number


def test_a_commit_that_a_replica_shows_first_is_not_taken_back(cluster: Lab, start: Callable[..., Proxy]) -> None:
    """It waits for a synchronous standby that is stuck, while the other one shows it already."""
    start()
    client = Client()
    client.post("/touch/")
    primary, one, other = cluster.servers
    writer = primary.connect()
    one.pause()
    with primary.with_setting("synchronous_standby_names", "standby1"):
        role = "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'standby1'"
        until("standby1 to be synchronous", lambda: primary.value(role) == "sync")
        writer.execute("SET synchronous_commit = remote_apply")
        write = "INSERT INTO project_wish (thing) VALUES ('x')"
        commit = threading.Thread(target=writer.execute, args=(write,))
        commit.start()
        try:
            shown = "SELECT count(*) FROM project_wish"
            until("the other to show it", lambda: other.value(shown) == 1)
            assert primary.value(shown) == 0
            from django_highwater import consistency, use_token
            from django_highwater import primary as on_primary

            def read() -> int:
                with connection.cursor() as cursor:
                    cursor.execute(shown)
                    count: int = cursor.fetchone()[0]
                return count

            with use_token(""):
                with consistency("eventual"):
                    # Each connection has a replica of its choice.
                    until("a read to be answered by it", lambda: read() == 1 or connection.close())
                threading.Timer(0.5, one.resume).start()
                with on_primary():
                    assert read() == 1, "not before the primary shows it"
        finally:
            one.resume()
            commit.join(timeout=15)
            writer.close()
