"""Start-up packets of all versions, and what may come before them, are answered as PostgreSQL answers them."""

import struct
from collections.abc import Iterator, Sequence

import psycopg
import pytest

from harness.lab import Lab
from harness.playing import shown
from harness.proxy import Proxy
from harness.waiting import until
from harness.wire import GSS_REQUEST, PROTOCOL_3_0, SSL_REQUEST, Wire, cancel_request, message, query, startup

PROTOCOL_3_2 = PROTOCOL_3_0 + 2
NEWEST = PROTOCOL_3_0 + 9999


def version(major: int, minor: int = 0) -> int:
    """A protocol version as it is written."""
    return major << 16 | minor


@pytest.fixture(scope="module")
def _trusting(_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Proxy]]:
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def trusting(lab: Lab, _trusting: list[Proxy], tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """A proxy that asks nobody for a password, and has no certificate, like the servers."""
    if not _trusting or not _trusting[-1].is_running():
        _trusting[:] = [Proxy(tmp_path_factory.mktemp("trusting"), lab.servers, auth="trust")]
        _trusting[-1].until_it_sees(lab.servers)
    return _trusting[-1]


def answers(port: int, packets: Sequence[bytes]) -> list[tuple[str, str]]:
    """What comes back: a single byte for each packet but the last, then messages up to ReadyForQuery or the end."""
    told = []
    with Wire(port) as wire:
        for packet in packets[:-1]:
            wire.send(packet)
            told.append((wire.socket.recv(1).decode(), ""))
        wire.send(packets[-1])
        tag = b"?"
        while tag not in (b"Z", b""):
            tag, body = wire.receive()
            # Numbers of processes and their keys differ, but not their length.
            told.append((tag.decode(), str(len(body)) if tag == b"K" else shown(tag, body)))
    # Who is refused may or may not have been told before that he is who he says.
    return told if told[-1][0] == "Z" else [one for one in told if one[0] != "R"]


START: dict[str, Sequence[bytes]] = {
    "3.0": [startup("trusted", "shop")],
    "3.1": [startup("trusted", "shop", version(3, 1))],
    "3.2": [startup("trusted", "shop", PROTOCOL_3_2)],
    "3.9999": [startup("trusted", "shop", NEWEST)],
    "an option": [startup("trusted", "shop", settings={"_pq_.one": "1"})],
    "options of 3.2": [startup("trusted", "shop", PROTOCOL_3_2, {"_pq_.one": "1", "TimeZone": "UTC", "_pq_.two": ""})],
    "no encryption": [SSL_REQUEST, startup("trusted", "shop")],
    "a name that is cut": [startup("trusted", "shop", settings={"application_name": "n" * 70})],
    "a name that has other letters": [startup("trusted", "shop", settings={"application_name": "é\tx"})],
    "settings": [startup("trusted", "shop", settings={"DateStyle": "German", "options": "-c TimeZone=Asia/Tokyo"})],
    "a bad setting": [startup("trusted", "shop", settings={"DateStyle": "nonsense"})],
    "a setting that is not there": [startup("trusted", "shop", settings={"nonsense": "1"})],
    "a setting for the start-up alone": [startup("trusted", "shop", settings={"ignore_system_indexes": "on"})],
    "4.0": [startup("trusted", "shop", version(4))],
    "4.7": [startup("trusted", "shop", version(4, 7))],
    "SSLRequest twice": [SSL_REQUEST, SSL_REQUEST],
    "no user": [struct.pack(">II", 9, PROTOCOL_3_0) + b"\0"],
    "no end": [struct.pack(">II", 16, PROTOCOL_3_0) + b"user\0use"],
    "another role": [startup("nobody at all", "shop")],
    "another database": [startup("trusted", "nothing")],
}


# What only PostgreSQL 18 knows: the negotiated version and options, and how long the body is that tells the cancel key.
SINCE_18: dict[str, tuple[bytes, int]] = {
    "3.1": (b"", 8),
    "3.2": (b"", 36),
    "3.9999": (struct.pack(">II", PROTOCOL_3_2, 0), 36),
    "options of 3.2": (struct.pack(">II", PROTOCOL_3_2, 2) + b"_pq_.one\0_pq_.two\0", 36),
}


def _as_by_18(name: str, port: int) -> list[tuple[str, str]]:
    """What an older server's answer becomes in PostgreSQL 18."""
    told = answers(port, START[name])
    if name not in SINCE_18:
        return [(tag, text.replace("server supports 3.0 to 3.0", "server supports 3.0 to 3.2")) for tag, text in told]
    negotiated, key_bytes = SINCE_18[name]
    told = [(tag, str(key_bytes) if tag == "K" else text) for tag, text in told if tag != "v"]
    return [*([("v", shown(b"v", negotiated))] if negotiated else []), *told]


@pytest.mark.parametrize("name", START)
def test_logins_are_answered_as_by_postgresql(lab: Lab, trusting: Proxy, name: str) -> None:
    is_new = lab.primary.version >= 18
    expected = answers(lab.primary.port, START[name]) if is_new else _as_by_18(name, lab.primary.port)
    assert answers(trusting.port, START[name]) == expected


@pytest.mark.parametrize("of", ["ROLE trusted", "DATABASE shop", "ROLE trusted IN DATABASE shop"])
def test_defaults_of_roles_and_databases_are_reported(lab: Lab, trusting: Proxy, of: str) -> None:
    """From the next login on, when they were set through the proxy."""
    admin = psycopg.connect(**trusting.parameters("shop", "postgres"), autocommit=True)
    first = answers(trusting.port, START["3.0"])
    try:
        for setting in ("DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "default_transaction_read_only = on"):
            admin.execute(f"ALTER {of} SET {setting}")
        told = answers(trusting.port, START["3.0"])
        assert told == answers(lab.primary.port, START["3.0"])
        assert told != first
    finally:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER {of} RESET ALL")
        admin.close()
    assert answers(trusting.port, START["3.0"]) == first


@pytest.mark.parametrize("old", [version(1), version(2), version(2, 7)], ids=["1.0", "2.0", "2.7"])
def test_old_protocols_are_refused_in_their_own_words(lab: Lab, trusting: Proxy, old: int) -> None:
    def refusal(port: int) -> bytes:
        with Wire(port) as wire:
            wire.send(startup("trusted", "shop", old))
            return wire.rest()

    told = refusal(trusting.port)
    assert told == refusal(lab.primary.port).replace(b"3.0 to 3.0", b"3.0 to 3.2")
    assert told.startswith(b"EFATAL:  unsupported frontend protocol")


def test_gss_encryption_is_declined(trusting: Proxy) -> None:
    """PostgreSQL may have it, so that there is nothing to compare with."""
    greeting = answers(trusting.port, [startup("trusted", "shop", PROTOCOL_3_2)])
    for requests in ([GSS_REQUEST], [GSS_REQUEST, SSL_REQUEST], [SSL_REQUEST, GSS_REQUEST]):
        told = answers(trusting.port, [*requests, startup("trusted", "shop", PROTOCOL_3_2)])
        assert told == [("N", "")] * len(requests) + greeting
    refused = answers(trusting.port, [GSS_REQUEST, GSS_REQUEST])
    assert refused[1][1].startswith("SFATAL VFATAL C0A000 Munsupported frontend protocol 1234.5680")


@pytest.mark.parametrize("asked", [PROTOCOL_3_0, PROTOCOL_3_2, NEWEST], ids=["3.0", "3.2", "3.9999"])
def test_the_key_that_was_told_cancels(lab: Lab, trusting: Proxy, asked: int) -> None:
    """And none that is longer, shorter or other."""

    def request(key: bytes) -> None:
        with Wire(trusting.port) as other:
            other.send(cancel_request(key))
            assert other.is_closed()

    with Wire(trusting.port) as wire:
        wire.send(startup("trusted", "shop", asked))
        key = wire.until(b"K")
        wire.until(b"Z")
        wire.send(query("SELECT pg_sleep(60), 'by key'"))
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sl%by key%'"
        until("the statement to run", lambda: sum(server.value(running) for server in lab.servers) == 1)
        for wrong in (key + b"\0", key + bytes(28), key[:-1] + bytes([key[-1] ^ 1]), bytes(4) + key[4:]):
            request(wrong)
        wire.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            wire.socket.recv(1)
        wire.socket.settimeout(20)
        request(key)
        assert wire.complaint()["C"] == "57014"


@pytest.mark.parametrize("kind", ["database", "true", "on", "1"])
def test_replication_is_refused_with_a_code(trusting: Proxy, kind: str) -> None:
    with Wire(trusting.port) as wire:
        wire.send(startup("trusted", "shop", settings={"replication": kind}))
        complaint = wire.complaint()
        assert (complaint["S"], complaint["C"]) == ("FATAL", "0A000")
        assert wire.is_closed()


def test_no_replication_is_a_login_like_any_other(trusting: Proxy) -> None:
    with Wire(trusting.port) as wire:
        wire.send(startup("trusted", "shop", settings={"replication": "false"}))
        wire.until(b"Z")


def test_tls_without_a_certificate_ends_at_once(trusting: Proxy) -> None:
    """PostgreSQL 17's direct TLS: a ClientHello as the first bytes."""
    with Wire(trusting.port) as wire:
        wire.send(b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(200))
        assert wire.is_closed()
    with Wire(trusting.port) as wire:
        wire.log_in()
        wire.send(message(b"X", b""))
        assert wire.is_closed()
