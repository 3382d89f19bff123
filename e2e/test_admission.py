"""Who may try to log in, and how many at once."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.certificates import Authority
from harness.connection import SqlError
from harness.guarded import Guarded
from harness.lab import binary
from harness.proxy import APP, Proxy, Section
from harness.refusals import refusal
from harness.waiting import until
from harness.wire import Wire


def allow(**entry: Any) -> Section:
    """One entry of the list."""
    return ("allow", entry)


def log_in(proxy: Proxy, **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection by libpq."""
    return psycopg.connect(**proxy.parameters() | more, autocommit=True)


def test_the_first_entry_that_fits_decides(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    proxy = before_guarded(
        sections=[
            APP,
            allow(user=role, database="shop", method="reject"),
            allow(user=["app", role], address=["10.0.0.0/8", "127.0.0.0/8"]),
            allow(database="highwater"),
        ]
    )
    assert refusal(proxy) == ""
    assert refusal(proxy, user=role, password="secret") == "28000"
    assert refusal(proxy, user=role, password="secret", database="postgres") == ""
    assert refusal(proxy, user="somebody") == "28000"
    assert proxy.console("SHOW VERSION")
    with pytest.raises(psycopg.OperationalError) as refused:
        log_in(proxy, user="somebody", sslmode="disable")
    told = 'no allow entry for host "127.0.0.1", user "somebody", database "shop", no encryption'
    assert told in str(refused.value)
    with pytest.raises(psycopg.OperationalError, match="allow entry rejects connection"):
        log_in(proxy, user=role, password="secret")


def test_what_stands_behind_the_at_does_not_count(guarded: Guarded, before_guarded: StartProxy) -> None:
    proxy = before_guarded(sections=[APP, allow(database="shop")])
    assert refusal(proxy, database="shop@primary") == ""
    assert refusal(proxy, database="postgres@primary") == "28000"


def test_sockets_and_addresses_are_told_apart(guarded: Guarded, before_guarded: StartProxy, tmp_path: Path) -> None:
    listen = ["127.0.0.1:0", f"unix:{tmp_path}"]
    local = allow(address="local", method="trust")
    proxy = before_guarded(listen=listen, sections=[local, allow(address="127.0.0.0/8")])
    # Whoever trusts his own machine need not know a password; the servers want one all the same.
    role = guarded.role("secret")
    with log_in(proxy, user=role, password="secret") as client:
        assert client.execute("SELECT current_user").fetchone() == (role,)
    with log_in(proxy, user=role, host=str(tmp_path), password="") as client:
        assert client.execute("SELECT current_user").fetchone() == (role,)
    with pytest.raises(psycopg.OperationalError, match="none is known for user"):
        log_in(proxy, user=guarded.role("x"), host=str(tmp_path), password="")


def test_encryption_may_be_asked_for(guarded: Guarded, before_guarded: StartProxy, authority: Authority) -> None:
    shown = authority.issue("admission")
    proxy = before_guarded(
        tls_cert=str(shown.cert),
        tls_key=str(shown.key),
        sections=[APP, allow(user="app", tls=True), allow(user="highwater", tls=False)],
    )
    assert refusal(proxy) == "28000"
    with log_in(proxy, sslmode="require") as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="no allow entry .* SSL encryption"):
        log_in(proxy, user="highwater", password="highwater", sslmode="require")
    assert refusal(proxy, user="highwater", password="highwater") == ""


COMPLAINTS = [
    ('[[allow]]\nuser = "a"\nadress = "local"\n', ["line 3", "adress"]),
    ('[[allow]]\naddress = "10.0.0.0/40"\n', ["line 2", "10.0.0.0/40"]),
    ('[[allow]]\nmethod = "ident"\n', ["line 2", "ident"]),
    ('[[allow]]\nmethod = "cert"\n', ["allow", "entry 1", "client_cert"]),
    ('tls_cert = "x.pem"\n', ["tls_key"]),
    ('client_tls = "require"\n', ["client_tls", "tls_cert"]),
    ('client_cert = "verify-ca"\n', ["client_cert", "client_ca"]),
    ('client_cert = "verify"\n', ["line 1", "client_cert"]),
    ('tls_cert = "nowhere.pem"\ntls_key = "nowhere.key"\n', ["nowhere.pem"]),
    ('unix_socket_mode = "rw"\n', ["line 1", "unix_socket_mode"]),
    ('[[user]]\nname = "a"\nserver_connections_max = 0\n', ["server_connections_max", "a"]),
]


@pytest.mark.parametrize(("text", "told"), COMPLAINTS, ids=[" ".join(told) for _, told in COMPLAINTS])
def test_a_bad_list_is_told(tmp_path: Path, text: str, told: list[str]) -> None:
    config = tmp_path / "highwater.toml"
    config.write_text(text + '[[server]]\nurl = "postgres://u@h/d"\n')
    for command in ("check", "run"):
        done = subprocess.run([binary(), command, "--config", config], capture_output=True, text=True, timeout=20)
        assert done.returncode not in (0, 101), done.stderr
        assert [word for word in told if word not in done.stderr] == []


def test_a_socket_has_the_mode_that_is_asked_for(before_guarded: StartProxy, tmp_path: Path) -> None:
    before_guarded(listen=["127.0.0.1:0", f"unix:{tmp_path}"], unix_socket_mode="0750")
    (path,) = tmp_path.glob(".s.PGSQL.*")
    assert path.stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("kind", ["user", "database"])
def test_clients_are_limited(guarded: Guarded, before_guarded: StartProxy, kind: str) -> None:
    limits = {
        "user": [("user", APP[1] | {"clients_max": 2})],
        "database": [APP, ("database", {"name": "shop", "clients_max": 2})],
    }
    proxy = before_guarded(sections=limits[kind])
    with ExitStack() as stack:
        first = stack.enter_context(log_in(proxy))
        stack.enter_context(log_in(proxy))
        assert refusal(proxy) == "53300"
        with pytest.raises(psycopg.OperationalError, match="too many connections for (role|database)"):
            log_in(proxy)
        # Others are not concerned.
        other = {"user": "highwater", "password": "highwater"} if kind == "user" else {"database": "postgres"}
        assert refusal(proxy, **other) == ""
        first.close()
        until("room for another", lambda: refusal(proxy) == "")


def test_an_administrator_gets_in_when_it_is_full(before_guarded: StartProxy) -> None:
    proxy = before_guarded(clients_max=1, sections=[APP])
    with log_in(proxy):
        assert refusal(proxy) == "53300"
        assert proxy.console("SHOW CLIENTS")


def test_who_does_not_finish_logging_in_takes_a_place_for_a_while(before_guarded: StartProxy) -> None:
    proxy = before_guarded(clients_max=1, login_timeout="2s", sections=[APP])
    with ExitStack() as stack:

        # Of two that come at once either may be the first.
        def taken() -> Wire | None:
            silent = stack.enter_context(Wire(proxy.port))
            return silent if refusal(proxy) == "53300" else None

        assert until("the place to be taken", taken).is_closed()
        assert refusal(proxy) == ""


def test_server_connections_are_limited_over_all_pools(
    guarded: Guarded, before_guarded: StartProxy, plain: Connect
) -> None:
    user = ("user", APP[1] | {"server_connections_max": 2})
    proxy = before_guarded(sections=[user], checkout_timeout="1s")
    databases = [("shop@primary", {"application_name": f"pool{number}"}) for number in range(4)]
    clients = [plain(proxy, database=database, settings=settings) for database, settings in databases]
    # Idle connections of other pools make room, one after the other.
    for _ in range(2):
        for client in clients:
            assert client.value("SELECT 1") == 1
            assert guarded.connections("app")["primary"] <= 2
    for client in clients[:2]:
        client.run("BEGIN")
        client.run("SELECT 1")
    with pytest.raises(SqlError) as refused:
        clients[2].value("SELECT 1")
    assert refused.value.sqlstate == "53300"
    assert guarded.connections("app")["primary"] == 2
    clients[0].run("ROLLBACK")
    assert clients[2].value("SELECT 1") == 1


def test_who_waits_for_a_connection_gets_the_next(guarded: Guarded, before_guarded: StartProxy, plain: Connect) -> None:
    database = ("database", {"name": "shop", "server_connections_max": 1})
    proxy = before_guarded(sections=[APP, database], checkout_timeout="20s")
    one, other = (
        plain(proxy, database="shop@primary", settings={"application_name": name}) for name in ("one", "other")
    )
    one.run("BEGIN")
    one.run("SELECT 1")
    with psycopg.connect(**proxy.parameters("shop@primary"), autocommit=True, application_name="third") as third:
        third.pgconn.send_query(b"SELECT 1")
        until("it to wait", lambda: any(int(row["sv_active"]) for row in proxy.console("SHOW POOLS")))
        one.run("COMMIT")
        result = third.pgconn.get_result()
        assert result and result.get_value(0, 0) == b"1"
        assert third.pgconn.get_result() is None
    assert other.value("SELECT 1") == 1


def test_an_idle_client_is_cut_off(guarded: Guarded, before_guarded: StartProxy, plain: Connect) -> None:
    proxy = before_guarded(sections=[APP], client_idle_timeout="400ms", auth="scram")
    with log_in(proxy) as busy, log_in(proxy) as idle:
        busy.execute("BEGIN")

        # The other one is served all the while: only idleness counts.
        def is_gone() -> bool:
            assert busy.execute("SELECT 1").fetchone() == (1,)
            return len([row for row in proxy.console("SHOW CLIENTS") if row["database"] == "shop"]) == 1

        until("the idle client to be cut off", is_gone)
        with pytest.raises(psycopg.OperationalError) as told:
            idle.execute("SELECT 1")
        assert "terminating connection due to idle-session timeout" in str(told.value)
        busy.execute("COMMIT")


def test_the_end_of_an_idle_client_has_its_sqlstate(guarded: Guarded, before_guarded: StartProxy) -> None:
    proxy = before_guarded(sections=[APP, allow(method="trust")], client_idle_timeout="200ms")
    with Wire(proxy.port) as wire:
        wire.log_in("app")
        assert wire.complaint()["C"] == "57P05"
        assert wire.is_closed()
