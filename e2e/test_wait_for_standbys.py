"""`highwater.wait_for_standbys`: a commit returns when standbys show it, or says which do not."""

import re
import threading
import time

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import SqlError
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until


def test_standbys_show_what_has_been_committed(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings={"highwater.wait_for_standbys": "all", "highwater.standbys_timeout": "10s"})
    for value in range(1, 11):
        row.write(client, value)
        assert [row.read(standby) for standby in lab.standbys] == [value] * 2
    standby = lab["standby1"]
    standby.pause()
    resuming = threading.Timer(0.3, standby.resume)
    resuming.start()
    row.write(client, 20)
    assert row.read(standby) == 20
    resuming.join()
    assert client.notices == []


def test_who_lags_is_named(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    """For this transaction alone."""
    client = connect(proxy)
    with paused(lab["standby1"]):
        client.run("BEGIN")
        client.run("SET LOCAL highwater.wait_for_standbys = 'all'")
        client.run("SET LOCAL highwater.standbys_timeout = '200ms'")
        row.write(client, 1)
        began = time.monotonic()
        client.run("COMMIT")
        assert time.monotonic() - began > 0.19
        assert row.read(lab["standby2"]) == 1
        (notice,) = client.notices
        assert "the commit is shown by 1 of 2 standbys so far" in notice
        began = time.monotonic()
        row.write(client, 2)
        assert time.monotonic() - began < 0.19
        assert len(client.notices) == 1, "SET LOCAL has ended"
    assert row.read(lab.primary) == 2


def test_details_are_given(lab: Lab, start_proxy: StartProxy, row: Row) -> None:
    proxy = start_proxy(standbys_timeout="100ms")
    details: list[str] = []
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        client.add_notice_handler(lambda notice: details.append(notice.message_detail or ""))
        client.execute("SET highwater.wait_for_standbys = 'all'")
        write = "UPDATE counter SET v = v + 1 WHERE id = %s"
        with paused(lab["standby1"]):
            client.execute(write, [row.id])
        assert re.fullmatch(r"Missing: standby1 \([1-9]\d* bytes behind\)\.", details.pop())
        with lab["standby2"].down():
            until("it to be missed", lambda: proxy.server("standby2")["role"] == "unknown")
            client.execute(write, [row.id])
        assert details.pop() == "Missing: standby2 (not known)."
    assert proxy.stat("standbys_late") == 2


def test_one_is_enough_if_one_is_wanted(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings={"highwater.wait_for_standbys": "1", "highwater.standbys_timeout": "10s"})
    with paused(lab["standby1"]):
        row.write(client, 1)
        assert row.read(lab["standby2"]) == 1
    assert client.notices == []


def test_whoever_is_drained_is_not_waited_for(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(standbys_timeout="10s")
    client = plain(proxy, settings={"highwater.wait_for_standbys": "all"})
    proxy.console("DRAIN standby1")
    with paused(lab["standby1"]):
        row.write(client, 1)
    assert client.notices == []


def test_nothing_to_show_is_not_waited_for(lab: Lab, proxy: Proxy, plain: Connect, row: Row) -> None:
    client = plain(proxy, settings={"highwater.wait_for_standbys": "all", "highwater.standbys_timeout": "5s"})
    with paused(*lab.standbys):
        lab.primary.rows("SELECT pg_switch_wal()")
        began = time.monotonic()
        client.run("BEGIN")
        row.write(client, 1)
        client.run("ROLLBACK")
        with pytest.raises(SqlError):
            client.run("INSERT INTO nowhere VALUES (1)")
        assert row.read(client) == 0
        assert time.monotonic() - began < 4
    assert client.notices == []


def test_a_statement_may_ask_by_itself(lab: Lab, proxy: Proxy, plain: Connect, row: Row) -> None:
    client = plain(proxy)
    with paused(lab["standby1"]):
        began = time.monotonic()
        hint = "/* highwater.wait_for_standbys='2',highwater.standbys_timeout='50ms' */"
        client.rows(f"{hint} UPDATE counter SET v = 1 WHERE id = %s", row.id)
        assert time.monotonic() - began < 0.9, "not the default"
        assert len(client.notices) == 1
        row.write(client, 2)
        assert len(client.notices) == 1


def test_so_may_a_commit(lab: Lab, proxy: Proxy, plain: Connect, row: Row) -> None:
    """Whatever a driver makes of it: a message of its own, or one of a pipeline."""
    client = plain(proxy)
    with paused(*lab.standbys):
        client.run("BEGIN")
        row.write(client, 1)
        client.run("/* highwater.wait_for_standbys='2',highwater.standbys_timeout='50ms' */ COMMIT")
    assert len(client.notices) == 1, client.notices


def test_the_setting_is_shown_and_checked(proxy: Proxy, plain: Connect) -> None:
    client = plain(proxy)
    shown = [client.rows(f"SHOW highwater.{name}")[0][0] for name in ("wait_for_standbys", "standbys_timeout")]
    assert shown == ["0", "1s"]
    client.run("SET highwater.wait_for_standbys = 'all'")
    assert client.rows("SHOW highwater.wait_for_standbys")[0][0] == "all"
    with pytest.raises(SqlError, match="a number of standbys, or all"):
        client.run("SET highwater.wait_for_standbys = 'some'")
