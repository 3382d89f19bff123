"""What an operator sees: the console by psql and by the program's own commands."""

import subprocess
from collections import Counter

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT
from harness.lab import Lab, binary, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

TABLES = {
    "SERVERS": {"name", "role", "timeline", "lsn", "lag_bytes", "probes"},
    "POOLS": {"database", "user", "server"},
    "CLIENTS": {"user", "database", "level", "pin", "last_route"},
    "SESSIONS": {"session", "watermark"},
    "ROUTES": {"server", "reason", "count"},
    "STATS": {"name", "value"},
    "LAG": {"standby", "lag_bytes"},
    "CONFIG": {"key", "value"},
    "VERSION": {"version"},
}


@pytest.mark.parametrize("table", TABLES)
def test_tables_have_their_columns(start_proxy: StartProxy, plain: Connect, row: Row, table: str) -> None:
    proxy = start_proxy()
    client = plain(proxy, settings={"highwater.session": "somebody"})
    row.write(client, 1)
    row.read(client)
    rows = proxy.console(f"SHOW {table}")
    assert rows
    assert set(rows[0]) >= TABLES[table]


def test_psql_is_at_home(proxy: Proxy) -> None:
    url = psycopg.conninfo.make_conninfo(**proxy.parameters("highwater", "highwater", "highwater"))
    done = subprocess.run(["psql", "-X", url, "-c", "show servers;"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "standby2" in done.stdout
    wrong = subprocess.run(["psql", "-X", url, "-c", "SHOW ME"], capture_output=True, text=True)
    assert "ERROR" in wrong.stderr
    assert "SHOW SERVERS" in wrong.stderr


def test_not_everybody_is_an_operator(proxy: Proxy) -> None:
    with pytest.raises(psycopg.OperationalError, match="console"):
        psycopg.connect(**proxy.parameters("highwater"))


def test_lag_is_shown(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy()
    with paused(lab["standby1"]):
        row.write(plain(proxy), 1)
        until("the lag to be seen", lambda: int(proxy.server("standby1")["lag_bytes"] or 0) > 0)
    until("it to be gone", lambda: proxy.server("standby1")["lag_bytes"] == "0")


def test_roles_are_discovered(lab: Lab, start_proxy: StartProxy) -> None:
    # In another order, and under names that say nothing.
    proxy = start_proxy(*[(f"db{server.port}", server.url) for server in reversed(lab.servers)])
    until("all to be seen", lambda: all(row["role"] != "unknown" for row in proxy.console("SHOW SERVERS")))
    roles = {row["name"]: row["role"] for row in proxy.console("SHOW SERVERS")}
    expected = {f"db{server.port}": "standby" for server in lab.standbys} | {f"db{lab.primary.port}": "primary"}
    assert roles == expected


def test_routes_add_up(start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy()
    client = plain(proxy, settings=PATIENT)
    before = routed(proxy)
    for value in range(10):
        row.write(client, value)
        row.read(client)
    after = routed(proxy)
    assert sum(after.values()) - sum(before.values()) == 20
    assert after["primary", "must_run_on_primary"] - before["primary", "must_run_on_primary"] == 10


def routed(proxy: Proxy) -> Counter[tuple[str, str]]:
    """How many statements have run where and why."""
    rows = proxy.console("SHOW ROUTES")
    return Counter({(row["server"], row["reason"]): int(row["count"]) for row in rows if row["server"]})


def test_clients_and_sessions_are_shown(proxy: Proxy, plain: Connect, row: Row) -> None:
    key = f"shown-{row.id}"
    client = plain(proxy, settings={"highwater.session": key, "application_name": key})
    row.write(client, 1)
    (shown,) = (it for it in proxy.console("SHOW CLIENTS") if it["application"] == key)
    assert (shown["user"], shown["database"], shown["level"], shown["pin"]) == ("app", "shop", "session", "")
    assert shown["last_route"].startswith("primary ")
    (session,) = (it for it in proxy.console("SHOW SESSIONS") if it["session"] == key)
    assert "/" in session["watermark"]
    client.close()
    until("the client to be gone", lambda: all(it["application"] != key for it in proxy.console("SHOW CLIENTS")))


EXPLAINED = {
    "SELECT v FROM counter": ("read", "a standby"),
    "SELECT bump(1)": ("write", "the primary"),
    "UPDATE counter SET v = 1": ("write", "the primary"),
}


@pytest.mark.parametrize("sql", EXPLAINED)
def test_statements_are_explained(proxy: Proxy, plain: Connect, row: Row, sql: str) -> None:
    row.read(plain(proxy))
    kind, goes = EXPLAINED[sql]
    facts = {it["fact"]: it["value"] for it in proxy.console(f"EXPLAIN shop {sql}")}
    assert kind in facts["class"]
    assert facts["goes to"].startswith(goes)


def test_commands_ask_the_console(proxy: Proxy, plain: Connect, row: Row) -> None:
    row.read(plain(proxy))
    url = f"postgres://highwater:highwater@127.0.0.1:{proxy.port}/highwater"
    status = subprocess.run([binary(), "status", "--console", url], capture_output=True, text=True)
    assert status.returncode == 0, status.stderr
    assert "standby2" in status.stdout
    command = [binary(), "explain", "--console", url, "--database", "shop", "DELETE FROM counter"]
    explained = subprocess.run(command, capture_output=True, text=True)
    assert explained.returncode == 0, explained.stderr
    assert "the primary" in explained.stdout
