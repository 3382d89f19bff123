"""The levels, told apart by replay that is paused; the wait budget, the way to the primary, and the refusal."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, SqlError
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

STANDBYS = {"standby1", "standby2"}


def at(level: str, **more: str) -> dict[str, str]:
    """Start-up settings for a level."""
    return {"highwater.consistency": level} | {f"highwater.{name}": value for name, value in more.items()}


def test_strong_sees_what_anybody_has_committed(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=at("strong") | PATIENT)
    servers = set()
    with paused(lab["standby1"]):
        for value in range(1, 21):
            row.write(lab.primary, value)
            assert row.read(client) == value
            servers.add(client.server())
    assert servers == {"standby2"}


def test_strong_is_what_one_gets_without_asking(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        assert row.read(client) == 1
        assert client.server() == "primary"


@pytest.mark.parametrize("level", ["session", "eventual"])
def test_weaker_levels_may_see_the_past_of_others(
    lab: Lab, proxy: Proxy, connect: Connect, row: Row, level: str
) -> None:
    client = connect(proxy, settings=at(level))
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        assert row.read(client) == 0
        assert client.server() in STANDBYS


def test_eventual_may_even_miss_its_own_writes(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=at("eventual"))
    with paused(*lab.standbys):
        row.write(client, 1)
        assert row.read(client) == 0
        client.run("SET highwater.consistency = 'session'")
        # What it wrote at the weaker level binds it from here on.
        assert row.read(client) == 1


def test_bounded_is_never_older_than_allowed(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=at("bounded", max_lag="400ms"))
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        written = time.monotonic()
        stale_reads = []

        def fresh() -> bool:
            began = time.monotonic() - written
            if row.read(client) == 1:
                return True
            stale_reads.append(began)
            return False

        until("the bound to bite", fresh)
        assert client.server() == "primary"
    assert all(began <= 0.4 for began in stale_reads), stale_reads
    lab.settle()
    until("standbys to serve again", lambda: row.read(client) == 1 and client.server() in STANDBYS)


def test_bounded_reads_the_near_past_on_standbys(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=at("bounded", max_lag="1min"))
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        assert row.read(client) == 0
        assert client.server() in STANDBYS


def test_primary_reads_on_the_primary(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=at("primary"))
    for _ in range(3):
        assert row.read(client) == 0
        assert client.route() == ("primary", "primary_asked")


def test_levels_are_set_like_any_setting(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=PATIENT)
    client.run("SET highwater.consistency = 'primary'")
    row.read(client)
    assert client.server() == "primary"
    client.run("RESET highwater.consistency")
    row.read(client)
    assert client.server() in STANDBYS
    client.run("SELECT set_config('highwater.consistency', 'primary', false)")
    row.read(client)
    assert client.server() == "primary"
    assert client.value("SHOW highwater.consistency") == "primary"


def test_a_level_set_locally_ends_with_its_transaction(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=PATIENT)
    client.run("BEGIN READ ONLY")
    client.run("SET LOCAL highwater.consistency = 'primary'")
    row.read(client)
    assert client.server() == "primary"
    client.run("COMMIT")
    row.read(client)
    assert client.server() in STANDBYS


def test_a_level_that_does_not_exist_is_refused(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    with pytest.raises(SqlError) as refused:
        client.run("SET highwater.consistency = 'fresh'")
    assert refused.value.sqlstate == "22023"
    with pytest.raises(SqlError) as refused:
        client.run("SET highwater.nonsense = 'on'")
    assert refused.value.sqlstate == "42704"
    assert row.read(client) == 0


def test_a_comment_sets_the_level_of_one_statement(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        read = f"SELECT v FROM counter WHERE id = {row.id}"
        assert client.value(f"/* highwater.consistency='eventual' */ {read}") == 0
        assert client.value(f"{read} /* highwater.consistency='eventual' */") == 0
        assert client.value(read) == 1


def test_rules_for_tables(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(consistency="session", tables=[{"name": "counter", "consistency": "primary"}])
    client = connect(proxy, settings=PATIENT)
    row.read(client)
    assert client.server() == "primary"
    client.rows("SELECT count(*) FROM bulk")
    assert client.server() in STANDBYS
    client.rows("SELECT count(*) FROM bulk JOIN counter USING (id)")
    assert client.server() == "primary"


def test_the_primary_helps_out_once_the_budget_is_spent(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=at("session", wait_budget="50ms"))
    with paused(*lab.standbys):
        row.write(client, 1)
        began = time.monotonic()
        assert row.read(client) == 1
        assert client.route() in [("primary", "budget_spent"), ("primary", "standbys_too_far_behind")]
    # Generous for a busy machine, and far from waiting for ever.
    assert time.monotonic() - began < 5


def test_refused_when_the_primary_must_not_help(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(primary_fallback_max=0)
    client = connect(proxy, settings=at("session", wait_budget="50ms"))
    with paused(*lab.standbys):
        row.write(client, 1)
        with pytest.raises(SqlError) as refused:
            row.read(client)
        assert refused.value.sqlstate == "53400"
        assert "bytes" in refused.value.detail
        # Refused, not cut off; and what must run on the primary still does.
        row.write(client, 2)
        assert client.value(f"SELECT v FROM counter WHERE id = {row.id} FOR UPDATE") == 2


def test_a_read_waits_within_its_budget(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(primary_fallback_max=0)
    client = connect(proxy, settings=at("session", wait_budget="20s"))

    def resume_when_waiting() -> None:
        until("the read to wait", lambda: proxy.stat("waits") > 0)
        lab["standby2"].resume()

    with paused(*lab.standbys), ThreadPoolExecutor() as pool:
        row.write(client, 1)
        resuming = pool.submit(resume_when_waiting)
        assert row.read(client) == 1
        assert client.server() == "standby2"
        resuming.result()


def test_stale_reads_prevented_are_counted(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy()
    client = plain(proxy)
    with paused(*lab.standbys):
        row.write(client, 1)
        assert row.read(client) == 1
    assert proxy.stat("stale_reads_prevented") == 1
