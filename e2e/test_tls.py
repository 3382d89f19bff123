"""TLS to clients: who gets it, who must, what is bound to it, and certificates that change under way."""

import base64
import hashlib
import os
import signal
import ssl
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from conftest import StartProxy
from harness.cancelling import sqlstate_of_cancelled
from harness.certificates import Authority, Certificate, self_signed
from harness.proxy import APP, Proxy
from harness.refusals import refusal
from harness.waiting import until
from harness.wire import SSL_REQUEST, Wire, message, startup


@pytest.fixture(scope="session")
def shown(authority: Authority) -> Certificate:
    """What the proxies of these tests show."""
    return authority.issue("proxy")


@pytest.fixture
def start(before_guarded: StartProxy, shown: Certificate) -> StartProxy:
    """Proxies with TLS that know the password of `app`."""

    def start(**settings: Any) -> Proxy:
        settings = {"tls_cert": str(shown.cert), "tls_key": str(shown.key), "sections": [APP], **settings}
        return before_guarded(**settings)

    return start


def connect(proxy: Proxy, **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """A connection by libpq."""
    return psycopg.connect(**proxy.parameters() | more, autocommit=True)


def is_encrypted(proxy: Proxy, **more: Any) -> bool:
    """Whether libpq came in, and came in by TLS."""
    with connect(proxy, **more) as client:
        assert client.execute("SELECT current_user").fetchone() == ("app",)
        return bool(client.pgconn.ssl_in_use)


@pytest.mark.parametrize(
    ("mode", "encrypted"),
    [
        ("disable", False),
        ("allow", False),
        ("prefer", True),
        ("require", True),
        ("verify-ca", True),
        ("verify-full", True),
    ],
)
def test_every_sslmode_works(start: StartProxy, authority: Authority, mode: str, encrypted: bool) -> None:
    proxy = start()
    root = {"sslrootcert": authority.file} if mode.startswith("verify") else {}
    assert is_encrypted(proxy, sslmode=mode, **root) == encrypted
    command = ["psql", "-XAtc", "SELECT current_user", f"host=localhost port={proxy.port} user=app dbname=shop"]
    command[-1] += f" sslmode={mode}" + "".join(f" {name}={value}" for name, value in root.items())
    psql = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PGPASSWORD": "app"})
    assert psql.stdout == "app\n", psql.stderr


def test_a_client_may_doubt_the_proxy(start: StartProxy, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(start(), sslmode="verify-ca", sslrootcert=stranger.file)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_both_versions_are_spoken(start: StartProxy, version: str) -> None:
    versions = {"ssl_min_protocol_version": version, "ssl_max_protocol_version": version}
    assert is_encrypted(start(), sslmode="require", channel_binding="require", **versions)


def test_logins_are_bound_to_the_channel(start: StartProxy) -> None:
    proxy = start()
    assert is_encrypted(proxy, sslmode="require", channel_binding="require", require_auth="scram-sha-256")
    assert is_encrypted(proxy, sslmode="require", channel_binding="disable")
    with pytest.raises(psycopg.OperationalError, match="channel binding required"):
        connect(proxy, sslmode="disable", channel_binding="require")


def test_a_certificate_that_names_no_hash_binds_nothing(start: StartProxy, tmp_path: Path) -> None:
    """PostgreSQL offers binding all the same, and libpq then fails; without an offer everybody gets in."""
    own = self_signed(tmp_path, "localhost", ed25519.Ed25519PrivateKey.generate(), None)
    proxy = start(tls_cert=str(own.cert), tls_key=str(own.key))
    assert is_encrypted(proxy, sslmode="require")
    assert is_encrypted(proxy, sslmode="verify-full", host="localhost", sslrootcert=own.cert)


def test_tls_may_begin_at_once(start: StartProxy) -> None:
    assert is_encrypted(start(), sslmode="require", sslnegotiation="direct", channel_binding="require")


def tls_on(wire: Wire, protocols: list[str] | None = None) -> ssl.SSLSocket:
    """Shake hands on a raw connection, whoever the other side is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context.wrap_socket(wire.socket)


@contextmanager
def asked_for_tls(proxy: Proxy) -> Iterator[ssl.SSLSocket]:
    """A raw connection by TLS, begun by SSLRequest."""
    with Wire(proxy.port) as wire:
        wire.send(SSL_REQUEST)
        assert wire.socket.recv(1) == b"S"
        with tls_on(wire) as secured:
            yield secured


def test_tls_at_once_must_say_what_it_speaks(start: StartProxy) -> None:
    proxy = start()
    with Wire(proxy.port) as wire, tls_on(wire) as secured:
        assert fields(read_message(secured)[1])["C"] == "08P01"
    with Wire(proxy.port) as wire, pytest.raises(ssl.SSLError, match="(?i)application.protocol"):
        tls_on(wire, ["http/1.1"])


def read_message(secured: ssl.SSLSocket) -> tuple[bytes, bytes]:
    """The next message of a TLS connection."""
    head = read_exactly(secured, 5)
    return head[:1], read_exactly(secured, struct.unpack(">I", head[1:])[0] - 4)


def read_exactly(secured: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = secured.recv(count - len(data))
        assert more, "closed too early"
        data += more
    return data


def fields(body: bytes) -> dict[str, str]:
    """The fields of an error."""
    return {field[:1].decode(): field[1:].decode() for field in body.split(b"\0") if field}


@pytest.mark.parametrize(("first", "sqlstate"), [(b"n,,", ""), (b"y,,", "28000"), (b"p=tls-unique,,", "28000")])
def test_a_removed_offer_of_binding_is_noticed(start: StartProxy, first: bytes, sqlstate: str) -> None:
    """`y` says that the client could bind and was offered nothing: somebody between must have cut the offer out."""
    proxy = start()
    with asked_for_tls(proxy) as secured:
        secured.sendall(startup("app", "shop"))
        tag, offer = read_message(secured)
        assert offer[4:].split(b"\0")[:2] == [b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"]
        text = first + b"n=,r=abcdefghijklmnopqrstuvwx"
        secured.sendall(message(b"p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(text)) + text))
        tag, body = read_message(secured)
        assert (tag == b"E" and fields(body)["C"]) == (sqlstate or False)


def test_a_binding_to_another_certificate_is_refused(start: StartProxy) -> None:
    proxy = start()
    with asked_for_tls(proxy) as secured:
        secured.sendall(startup("app", "shop"))
        read_message(secured)
        text = b"p=tls-server-end-point,,n=,r=abcdefghijklmnopqrstuvwx"
        secured.sendall(message(b"p", b"SCRAM-SHA-256-PLUS\0" + struct.pack(">I", len(text)) + text))
        nonce = read_message(secured)[1][4:].split(b",")[0]
        bound = base64.b64encode(b"p=tls-server-end-point,," + hashlib.sha256(b"other").digest())
        secured.sendall(message(b"p", b"c=" + bound + b"," + nonce + b",p=" + base64.b64encode(bytes(32))))
        assert fields(read_message(secured)[1])["C"] == "28000"


def test_what_stands_behind_the_request_in_the_clear_is_refused(start: StartProxy) -> None:
    """CVE-2021-23214: bytes sent before the handshake must not count as sent inside."""
    proxy = start()
    with Wire(proxy.port) as wire:
        wire.send(SSL_REQUEST + startup("app", "shop"))
        assert wire.complaint()["C"] == "08P01"
        assert wire.is_closed()


def test_one_request_is_enough(start: StartProxy) -> None:
    proxy = start()
    with asked_for_tls(proxy) as secured:
        secured.sendall(SSL_REQUEST)
        assert fields(read_message(secured)[1])["C"] == "0A000"


def test_without_a_certificate_there_is_no_tls(before_guarded: StartProxy) -> None:
    proxy = before_guarded(sections=[APP])
    assert not is_encrypted(proxy, sslmode="prefer")
    with pytest.raises(psycopg.OperationalError, match="SSL"):
        connect(proxy, sslmode="require")


def test_tls_may_be_required(start: StartProxy, tmp_path: Path) -> None:
    proxy = start(client_tls="require", listen=["127.0.0.1:0", f"unix:{tmp_path}"])
    assert is_encrypted(proxy, sslmode="prefer")
    assert refusal(proxy) == "28000"
    with pytest.raises(psycopg.OperationalError, match="connection requires TLS"):
        connect(proxy, sslmode="disable")
    # A socket of the machine's own is as good.
    assert not is_encrypted(proxy, host=str(tmp_path), sslmode="prefer")


UNFINISHED = {"asked": SSL_REQUEST, "half asked": SSL_REQUEST[:5], "begun": b"\x16\x03\x01\x02"}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_a_handshake_that_does_not_end_is_cut_off(start: StartProxy, sent: bytes) -> None:
    proxy = start(login_timeout="300ms")
    with Wire(proxy.port) as wire:
        wire.send(sent)
        received = b""
        while more := wire.socket.recv(4096):
            received += more
        # In the clear it is told; once TLS was agreed on nothing may come but an alert.
        asked = sent == SSL_REQUEST
        assert received.startswith(b"S") == asked
        rest = received.removeprefix(b"S")
        assert rest == b"" or rest[:1] == b"\x15" or (rest[:1] == b"E" and sent[:1] == b"\0" and not asked)


def test_garbage_instead_of_a_handshake(start: StartProxy) -> None:
    proxy = start()
    for first in (SSL_REQUEST, b""):
        with Wire(proxy.port) as wire:
            wire.send(first)
            assert not first or wire.socket.recv(1) == b"S"
            wire.send(b"\x16\x03\x01\x00\x10" + os.urandom(64))
            wire.socket.settimeout(20)
            answer = wire.socket.recv(4096)
            # An alert, or nothing.
            assert not answer or answer[0] == 0x15
    assert is_encrypted(proxy, sslmode="require")


def test_large_answers_and_copies_pass(start: StartProxy) -> None:
    proxy = start()
    with connect(proxy, sslmode="require") as client:
        sql = "SELECT string_agg(md5(i::text), '' ORDER BY i) FROM generate_series(1, 200000) i"
        text = client.execute(sql).fetchone()
        assert len(text[0]) == 200000 * 32
        client.execute("CREATE TEMPORARY TABLE heap (line text)")
        rows = [hashlib.sha256(str(number).encode()).hexdigest() * 20 for number in range(5000)]
        with client.cursor().copy("COPY heap FROM STDIN") as copy:
            for row in rows:
                copy.write_row((row,))
        with client.cursor().copy("COPY heap TO STDOUT") as copy:
            assert sorted(row[0] for row in copy.rows()) == sorted(rows)
        assert client.execute("SELECT count(*) FROM heap").fetchone() == (5000,)


def test_a_slow_reader_gets_everything(start: StartProxy) -> None:
    """More than all buffers hold, taken in small bites."""
    proxy = start()
    with connect(proxy, sslmode="require") as client:
        rows = client.cursor().stream("SELECT repeat('x', 10000) FROM generate_series(1, 3000)")
        assert sum(len(row[0]) for row in rows) == 30_000_000
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_is_cancelled_over_tls(start: StartProxy) -> None:
    proxy = start(client_tls="require")
    with connect(proxy, sslmode="require") as client:
        assert sqlstate_of_cancelled(client) == "57014"


def serial(proxy: Proxy) -> str:
    """The certificate that the proxy shows now."""
    with asked_for_tls(proxy) as secured:
        return hashlib.sha256(secured.getpeercert(binary_form=True) or b"").hexdigest()


def test_certificates_are_renewed_without_dropping_anybody(start: StartProxy, authority: Authority) -> None:
    mine = authority.issue("renewed")
    proxy = start(tls_cert=str(mine.cert), tls_key=str(mine.key))
    first = serial(proxy)
    with connect(proxy, sslmode="require") as early:
        assert early.execute("SELECT 1").fetchone() == (1,)
        mine.replace(authority.issue("next"))
        until("the new certificate to be shown", lambda: serial(proxy) != first)
        second = serial(proxy)
        # A key that does not belong to it, as in the middle of a clumsy renewal.
        mine.key.write_bytes(authority.issue("other").key.read_bytes())
        until("the complaint", lambda: "cannot be used, so the old content stays" in proxy.log)
        assert serial(proxy) == second
        assert is_encrypted(proxy, sslmode="verify-full", sslrootcert=authority.file, channel_binding="require")
        assert early.execute("SELECT 2").fetchone() == (2,)


def test_a_hangup_reads_certificates_again(start: StartProxy, authority: Authority) -> None:
    mine = authority.issue("hup")
    proxy = start(tls_cert=str(mine.cert), tls_key=str(mine.key))
    os.kill(proxy.pid, signal.SIGHUP)
    until("it to be said", lambda: "read again" in proxy.log)
    assert proxy.is_running()


CLIENT_CERTIFICATES = [
    ("optional", "scram", None, ""),
    ("optional", "scram", "ann", ""),
    ("verify-ca", "scram", None, "connection requires a valid client certificate"),
    ("verify-ca", "scram", "ann", ""),
    ("verify-full", "scram", "ann", "certificate authentication failed"),
    ("verify-full", "scram", "app", ""),
    ("optional", "cert", None, "certificate authentication failed"),
    ("optional", "cert", "ann", "certificate authentication failed"),
    ("optional", "cert", "app", ""),
    ("optional", "cert", "svc-7@example.org", ""),
]


@pytest.mark.parametrize(("wanted", "auth", "name", "refused"), CLIENT_CERTIFICATES)
def test_client_certificates(
    start: StartProxy, authority: Authority, wanted: str, auth: str, name: str | None, refused: str
) -> None:
    proxy = start(
        auth=auth,
        client_cert=wanted,
        client_ca=str(authority.file),
        sections=[APP, ("cert", {"name": "svc-*@example.org", "user": "app"})],
    )
    own: dict[str, Any] = {"sslmode": "require", "password": "app" if auth == "scram" else ""}
    if name:
        certificate = authority.issue(f"{name}-client", common_name=name)
        own |= {"sslcert": certificate.cert, "sslkey": certificate.key}
    if not refused:
        assert is_encrypted(proxy, **own)
        return
    with pytest.raises(psycopg.OperationalError, match=refused):
        connect(proxy, **own)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if name:
        context.load_cert_chain(own["sslcert"], own["sslkey"])
    assert refusal(proxy, ssl=context, direct_tls=False) == "28000"


def test_a_certificate_of_a_stranger_ends_the_handshake(
    start: StartProxy, authority: Authority, tmp_path: Path
) -> None:
    proxy = start(client_cert="optional", client_ca=str(authority.file))
    forged = Authority(tmp_path, "stranger").issue("forged", common_name="app")
    with pytest.raises(psycopg.OperationalError, match="(?i)unknown ca|certificate"):
        connect(proxy, sslmode="require", sslcert=forged.cert, sslkey=forged.key)
    assert is_encrypted(proxy, sslmode="require")


def test_a_revoked_certificate_ends_the_handshake(start: StartProxy, authority: Authority) -> None:
    good, bad = (authority.issue(name, common_name="app") for name in ("good-client", "bad-client"))
    crl = authority.revoke(bad)
    proxy = start(auth="cert", client_cert="optional", client_ca=str(authority.file), client_crl=str(crl))
    parameters = {"sslmode": "require", "password": ""}
    role = {"sslcert": good.cert, "sslkey": good.key}
    assert is_encrypted(proxy, **parameters, **role)
    with pytest.raises(psycopg.OperationalError, match="(?i)revoked"):
        connect(proxy, **parameters, sslcert=bad.cert, sslkey=bad.key)


def test_over_tcp_in_the_clear_there_is_no_certificate(start: StartProxy, authority: Authority, tmp_path: Path) -> None:
    listen = ["127.0.0.1:0", f"unix:{tmp_path}"]
    proxy = start(client_cert="verify-ca", client_ca=str(authority.file), listen=listen)
    assert refusal(proxy) == "28000"
    assert not is_encrypted(proxy, host=str(tmp_path))
