"""Clients that are wrong, hostile or slow: cut off in their own time, at their own cost."""

import base64
import os
import struct
import time

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import SqlError
from harness.lab import Lab
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until
from harness.wire import PROTOCOL_3_0, Wire, message, query, startup

MEGABYTE = 1 << 20
GIGABYTE = 1 << 30

# More than any socket buffers hold.
ENDLESS_ROWS = "SELECT repeat('x', 10000) FROM generate_series(1, 20000)"


def test_a_wrong_password_is_refused(proxy: Proxy, connect: Connect) -> None:
    with pytest.raises((SqlError, psycopg.OperationalError)) as refused:
        connect(proxy, password="wrong")
    assert 'password authentication failed for user "app"' in str(refused.value)


@pytest.mark.parametrize("user", ["app", "nobody"])
def test_who_may_not_in_is_not_told_why(proxy: Proxy, user: str) -> None:
    """An unknown user gets as far as a wrong password does."""
    with Wire(proxy.port) as wire:
        wire.send(startup(user, "shop"))
        assert b"SCRAM-SHA-256" in wire.until(b"R")
        wire.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", 32) + b"n,,n=,r=abcdefghijklmnopqrstuvwx"))
        # "r=NONCE,s=SALT,i=ROUNDS" behind four bytes that say "continue".
        nonce = wire.until(b"R")[4:].split(b",")[0]
        wire.send(message(b"p", b"c=biws," + nonce + b",p=" + base64.b64encode(bytes(32))))
        complaint = wire.complaint()
        assert (complaint["C"], complaint["M"]) == ("28P01", f'password authentication failed for user "{user}"')


def test_an_unknown_database_is_told(proxy: Proxy, connect: Connect) -> None:
    with pytest.raises((SqlError, psycopg.OperationalError)) as refused:
        client = connect(proxy, database="nowhere")
        client.value("SELECT 1")
    assert 'database "nowhere" does not exist' in str(refused.value)


def test_an_unknown_server_in_the_name_is_told(proxy: Proxy, connect: Connect) -> None:
    with pytest.raises((SqlError, psycopg.OperationalError)) as refused:
        connect(proxy, database="shop@mars")
    assert "mars" in str(refused.value)


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n",
    "zeros": bytes(64),
    "random": os.urandom(64),
    "length of 1 GiB": struct.pack(">II", GIGABYTE, PROTOCOL_3_0),
    "negative length": struct.pack(">iI", -1, PROTOCOL_3_0),
    "too short": struct.pack(">I", 4),
    "old protocol": struct.pack(">II", 8, 2 << 16),
    "no end": struct.pack(">II", 16, PROTOCOL_3_0) + b"userusers"[:8],
    "no user": struct.pack(">II", 9, PROTOCOL_3_0) + b"\0",
}


@pytest.mark.parametrize("first", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_at_first(proxy: Proxy, plain: Connect, row: Row, first: bytes) -> None:
    before = proxy.memory_bytes()
    with Wire(proxy.port) as wire:
        wire.send(first)
        assert wire.is_closed()
    assert proxy.memory_bytes() - before < 4 * MEGABYTE
    assert row.read(plain(proxy)) == 0


BROKEN = {
    "unknown tag": message(b"!", b"hello"),
    "length below four": b"Q" + struct.pack(">I", 3),
    "negative length": b"Q" + struct.pack(">i", -2),
    "query of 1 GiB": b"Q" + struct.pack(">I", GIGABYTE) + b"SELECT 1",
    "bind of 1 GiB": b"B" + struct.pack(">I", GIGABYTE) + b"\0\0",
    "copy data of 1 GiB": b"d" + struct.pack(">I", GIGABYTE) + b"x",
    "parse without end": message(b"P", b"name"),
    "bind without end": message(b"B", b"\0\0\xff\xff"),
    "password again": message(b"p", b"secret\0"),
}


@pytest.mark.parametrize("bytes_", BROKEN.values(), ids=BROKEN.keys())
def test_broken_messages_after_login(start_proxy: StartProxy, plain: Connect, row: Row, bytes_: bytes) -> None:
    proxy = start_proxy(auth="trust")
    with Wire(proxy.port) as wire:
        wire.log_in()
        before = proxy.memory_bytes()
        wire.send(bytes_)
        # The rest of what was announced never comes; an honest client's Sync would follow.
        wire.send(message(b"S", b""))
        complaint = wire.complaint()
        assert complaint.get("C", "08P01") in ("08P01", "26000", "53200", "54000")
        assert proxy.memory_bytes() - before < 4 * MEGABYTE
    assert row.read(plain(proxy, user="trusted")) == 0


def test_a_slow_login_is_cut_off(start_proxy: StartProxy) -> None:
    proxy = start_proxy(login_timeout="300ms")
    with Wire(proxy.port) as silent, Wire(proxy.port) as stopped:
        stopped.send(startup("app", "shop")[:7])
        began = time.monotonic()
        assert silent.is_closed()
        assert stopped.is_closed()
        assert time.monotonic() - began < 10


def test_too_many_clients(start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(clients_max=2, auth="trust")
    with Wire(proxy.port) as one, Wire(proxy.port) as two:
        one.log_in()
        two.log_in()
        with Wire(proxy.port) as three:
            three.send(startup("trusted", "shop"))
            assert three.complaint()["C"] == "53300"

    def has_room() -> bool:
        with Wire(proxy.port) as wire:
            wire.send(startup("trusted", "shop"))
            return bool(wire.until(b"Z", b"E", b"") == b"I")

    until("room for another client", has_room)


def test_a_client_that_stops_reading_disturbs_nobody(start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(auth="trust", client_stall_timeout="1min")
    with Wire(proxy.port, receive_buffer_bytes=4096) as wire:
        wire.log_in()
        before = proxy.memory_bytes()
        wire.send(query(ENDLESS_ROWS))
        wire.until(b"D")
        client = plain(proxy, user="trusted")
        for value in range(1, 51):
            row.write(client, value)
            assert row.read(client) == value
        assert proxy.memory_bytes() - before < 16 * MEGABYTE


def test_a_client_that_stops_reading_is_cut_off(lab: Lab, start_proxy: StartProxy) -> None:
    proxy = start_proxy(auth="trust", client_stall_timeout="300ms")
    with Wire(proxy.port, receive_buffer_bytes=4096) as wire:
        wire.log_in()
        wire.send(query(ENDLESS_ROWS))
        wire.until(b"D")
        until("the client to be cut off", lambda: len(clients(proxy)) == 0)
    # Its server connection does not go on working for nobody.
    sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trusted' AND state = 'active'"
    until("its statement to end", lambda: not any(server.value(sql) for server in lab.servers))


def test_what_follows_a_failed_copy_reaches_nobody_else(lab: Lab, start_proxy: StartProxy) -> None:
    """If COPY fails before the Sync behind its data, the server answers that Sync and runs what comes next."""
    # The second row fails only when the first one has taken its time: what follows the Sync has been sent by then.
    lab.primary.rows("CREATE TABLE tardy (id int, late text DEFAULT pg_sleep(0.05)::text)")
    lab.primary.rows("GRANT INSERT ON tardy TO public")
    proxy = start_proxy(auth="trust", pool_size=1)
    pipeline = [
        message(b"P", b"\0COPY tardy (id) FROM STDIN\0\0\0"),
        message(b"B", bytes(8)),
        message(b"E", bytes(5)),
        message(b"d", b"1\nbad\n"),
        message(b"S", b""),
        query("SELECT pg_sleep(0.02), 'not yours'"),
    ]
    for _ in range(5):
        with Wire(proxy.port) as careless, Wire(proxy.port) as other:
            careless.log_in()
            careless.send(b"".join(pipeline))
            careless.until(b"E", b"")
            other.log_in()
            other.send(query("SELECT 'mine'"))
            assert other.until(b"D").endswith(b"mine")


def clients(proxy: Proxy) -> list[dict[str, str]]:
    """The clients that the console shows, beside itself."""
    return [row for row in proxy.console("SHOW CLIENTS") if row["database"] != "highwater"]


@pytest.mark.parametrize("begin", ["SELECT 1", "BEGIN; UPDATE counter SET v = 9 WHERE id = {id}"])
def test_a_client_that_vanishes_leaves_nothing(
    lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row, begin: str
) -> None:
    proxy = start_proxy(auth="trust", pool_size=1)
    with Wire(proxy.port) as wire:
        wire.log_in()
        wire.send(query(begin.format(id=row.id)))
        wire.until(b"Z")
    client = plain(proxy, user="trusted")
    assert row.read(client) == 0
    row.write(client, 1)
    assert row.read(client) == 1


def test_replication_connections_are_refused(proxy: Proxy) -> None:
    with pytest.raises(psycopg.OperationalError, match="replication"):
        psycopg.connect(**proxy.parameters(), options="", replication="database")


def test_tls_is_declined_politely(proxy: Proxy) -> None:
    with psycopg.connect(**proxy.parameters(), sslmode="prefer", gssencmode="prefer") as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="SSL"):
        psycopg.connect(**proxy.parameters(), sslmode="require")
