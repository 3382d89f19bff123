"""Clients that say nothing for a while rest: they lose nothing by it, and whatever concerns them still reaches them."""

import json
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.certificates import Authority
from harness.connection import Connection
from harness.lab import Lab, paused
from harness.proxy import APP, Proxy
from harness.schema import Row
from harness.waiting import until
from harness.wire import Wire, message, query

Start = Callable[..., Proxy]


@pytest.fixture
def start(start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts proxies that say in their log who rests."""
    monkeypatch.setenv("HIGHWATER_LOG", "info,highwater::lobby=debug")
    return start_proxy


def resting(proxy: Proxy) -> list[int]:
    """The numbers of clients that have begun to rest, in order."""
    lines = (json.loads(line) for line in proxy.log.splitlines() if '"client rests"' in line and line.endswith("}"))
    return [line["fields"]["client"] for line in lines]


def until_rests(proxy: Proxy, client: Connection) -> None:
    """Wait until the client rests."""
    number = own_number(proxy, client)
    before = resting(proxy).count(number)
    until("the client to rest", lambda: resting(proxy).count(number) > before)


def own_number(proxy: Proxy, client: Connection) -> int:
    """The number by which the proxy knows the client: the only one of its application."""
    name = client.value("SHOW application_name")
    return next(int(row["pid"]) for row in proxy.console("SHOW CLIENTS") if row["application"] == name)


def named(plain: Connect, proxy: Proxy, name: str, **target: str) -> Connection:
    """A client that others can tell apart."""
    return plain(proxy, settings={"application_name": name}, **target)


def test_who_has_rested_is_as_before(lab: Lab, start: Start, plain: Connect, row: Row) -> None:
    proxy = start(consistency="session")
    client = named(plain, proxy, "one")
    client.run("SET TimeZone = 'Asia/Tokyo'")
    client.run("SET highwater.wait_budget = '7ms'")
    with paused(*lab.standbys):
        row.write(client, 1)
        until_rests(proxy, client)
        assert row.read(client) == 1, "the session must not go back behind its own write"
        assert client.server() == "primary"
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"
        assert client.value("SHOW highwater.wait_budget") == "7ms"


def test_prepared_statements_outlast_a_rest(start: Start, row: Row) -> None:
    proxy = start()
    with psycopg.connect(**proxy.parameters(), application_name="one", autocommit=True) as client:
        client.prepare_threshold = 0
        read = "SELECT v + 1 FROM counter WHERE id = %s"
        assert client.execute(read, (row.id,)).fetchone() == (1,)
        number = next(int(it["pid"]) for it in proxy.console("SHOW CLIENTS") if it["application"] == "one")
        until("the client to rest", lambda: number in resting(proxy))
        assert client.execute(read, (row.id,)).fetchone() == (1,)


def test_who_rests_can_be_ended(start: Start, plain: Connect, row: Row) -> None:
    proxy = start(auth="trust")
    with Wire(proxy.port) as wire:
        wire.log_in()
        number = until("it to rest", lambda: resting(proxy))[0]
        assert plain(proxy, user="trusted").value(f"SELECT pg_terminate_backend({number})") is True
        assert wire.complaint()["C"] == "57P01"
        assert wire.is_closed()
    until("it to be forgotten", lambda: str(number) not in [it["pid"] for it in proxy.console("SHOW CLIENTS")])


def test_who_rests_too_long_is_told(start: Start) -> None:
    proxy = start(auth="trust", client_idle_timeout="5s")
    with Wire(proxy.port) as wire:
        wire.log_in()
        until("it to rest", lambda: resting(proxy))
        assert wire.complaint()["C"] == "57P05"


def test_who_leaves_while_resting_is_forgotten(start: Start) -> None:
    proxy = start(auth="trust")
    with Wire(proxy.port) as wire:
        wire.log_in()
        number = until("it to rest", lambda: resting(proxy))[0]
        assert str(number) in [it["pid"] for it in proxy.console("SHOW CLIENTS")]
    until("it to be forgotten", lambda: str(number) not in [it["pid"] for it in proxy.console("SHOW CLIENTS")])


def test_whoever_holds_something_does_not_rest(start: Start, plain: Connect) -> None:
    """Neither who listens, nor who is in a transaction, nor who has said half of a statement."""
    proxy = start(auth="trust")
    listener = psycopg.connect(**proxy.parameters(), autocommit=True)
    listener.execute("LISTEN news")
    begun = psycopg.connect(**proxy.parameters())
    begun.execute("SELECT 1")
    with Wire(proxy.port) as wire:
        wire.log_in()
        statement = query("SELECT 'whole'")
        wire.send(statement[:10])
        # Clients that come later rest twice meanwhile: the others have been looked at as often.
        other = named(plain, proxy, "other")
        until_rests(proxy, other)
        until_rests(proxy, other)
        assert set(resting(proxy)) == {own_number(proxy, other)}
        wire.send(statement[10:])
        assert b"whole" in wire.until(b"D")
    other.run("NOTIFY news, 'hello'")
    assert next(listener.notifies(timeout=10)).payload == "hello"
    assert begun.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    listener.close()
    begun.close()


def test_a_word_at_any_moment_is_heard(start: Start, row: Row) -> None:
    """Clients speak just when they are laid to rest: whatever they say is answered."""
    proxy = start(auth="trust")
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(proxy.port)) for _ in range(300)]
        for wire in wires:
            wire.log_in()
        # All are asked to rest within milliseconds, and speak while that happens.
        for round_ in range(3):
            before = len(resting(proxy))
            until("the first to rest", lambda before=before: len(resting(proxy)) > before)
            for index, wire in enumerate(wires):
                wire.send(query(f"SELECT 'word {round_} {index}'"))
            for index, wire in enumerate(wires):
                assert f"word {round_} {index}".encode() in wire.until(b"D")
                wire.until(b"Z")
    until("all to be forgotten", lambda: not [it for it in proxy.console("SHOW CLIENTS") if it["user"] == "trusted"])


def test_rest_over_tls(start: Start, authority: Authority, row: Row) -> None:
    shown = authority.issue("server", "localhost", "127.0.0.1")
    proxy = start(tls_cert=str(shown.cert), tls_key=str(shown.key), sections=[APP])
    parameters = proxy.parameters() | {"sslmode": "require", "application_name": "one"}
    with psycopg.connect(**parameters, autocommit=True) as client:
        number = next(int(it["pid"]) for it in proxy.console("SHOW CLIENTS") if it["application"] == "one")
        for times in (1, 2):
            until("the client to rest", lambda times=times: resting(proxy).count(number) == times)
            assert client.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (0,)
        # More than one TLS record, and more than one read.
        long = "x" * 100_000
        until("the client to rest", lambda: resting(proxy).count(number) == 3)
        assert client.execute("SELECT length(%s)", (long,)).fetchone() == (100_000,)


def test_a_terminate_message_ends_a_rest(start: Start) -> None:
    proxy = start(auth="trust")
    with Wire(proxy.port) as wire:
        wire.log_in()
        until("it to rest", lambda: resting(proxy))
        wire.send(message(b"X", b""))
        assert wire.is_closed()
