"""TLS to servers: libpq's sslmode, whom it believes, what it shows, and SCRAM bound to the channel."""

import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from conftest import StartProxy
from harness.cancelling import sqlstate_of_cancelled
from harness.certificates import Authority, self_signed
from harness.guarded import Guarded
from harness.lab import Lab, Server
from harness.proxy import APP, Proxy
from harness.refusals import refusal
from harness.waiting import until


def url(server: Server, host: str = "127.0.0.1", **parameters: object) -> str:
    """The server's URL with these parameters."""
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{server.url.replace('127.0.0.1', host)}?{query}"


def before(start: StartProxy, guarded: Guarded, host: str = "127.0.0.1", **parameters: object) -> Proxy:
    """A proxy whose connections to servers have these parameters."""
    return start(*[(server.name, url(server, host, **parameters)) for server in guarded.servers], sections=[APP])


def is_encrypted(proxy: Proxy, **more: object) -> bool:
    """Whether the connection to the server that serves a client is."""
    with psycopg.connect(**proxy.parameters() | more, autocommit=True) as client:
        sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(client.execute(sql).fetchone()[0])


def trouble(start: StartProxy, guarded: Guarded, **parameters: object) -> str:
    """Why a proxy with these parameters does not find the primary."""
    urls = [("db", url(guarded.primary, **parameters))]
    proxy = start(*urls, sections=[APP], wait_for="cannot probe the server")
    told = proxy.server("db")["trouble"]
    assert refusal(proxy) in ("08006", "28000", "57P03")
    return told


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
def test_every_sslmode_works(
    guarded: Guarded, before_guarded: StartProxy, authority: Authority, mode: str, encrypted: bool
) -> None:
    root = {"sslrootcert": authority.file} if mode.startswith("verify") else {}
    assert is_encrypted(before(before_guarded, guarded, sslmode=mode, **root)) == encrypted


def test_without_a_word_it_is_prefer(guarded: Guarded, before_guarded: StartProxy) -> None:
    assert is_encrypted(before_guarded(sections=[APP]))


def test_names_count_with_verify_full_only(guarded: Guarded, before_guarded: StartProxy, authority: Authority) -> None:
    other = authority.issue("misnamed", "db.example.org", common_name="127.0.0.1")
    with shown(guarded, other.cert, other.key):
        assert is_encrypted(before(before_guarded, guarded, sslmode="verify-ca", sslrootcert=authority.file))
        told = trouble(before_guarded, guarded, sslmode="verify-full", sslrootcert=authority.file)
        assert "not valid for" in told


@contextmanager
def shown(guarded: Guarded, cert: Path, key: Path) -> Iterator[None]:
    """Another certificate for all servers while the block runs."""
    for server in guarded.servers:
        server.setting("ssl_cert_file", guarded.install("other.crt", cert.read_bytes()))
        guarded.install("other.key", key.read_bytes())
        server.setting("ssl_key_file", f"{guarded.folder}/other.key")
    try:
        yield
    finally:
        for server in guarded.servers:
            server.setting("ssl_cert_file", f"{guarded.folder}/server.crt")
            server.setting("ssl_key_file", f"{guarded.folder}/server.key")


def test_strangers_are_not_believed(guarded: Guarded, before_guarded: StartProxy, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    # A root makes `require` as strict as `verify-ca`, as in libpq.
    for mode in ("require", "verify-ca", "verify-full"):
        assert "TLS" in trouble(before_guarded, guarded, sslmode=mode, sslrootcert=stranger.file)
    assert not is_encrypted(before(before_guarded, guarded, sslmode="prefer", sslrootcert=stranger.file))


def test_a_self_signed_certificate_may_be_its_own_root(
    guarded: Guarded, before_guarded: StartProxy, tmp_path: Path
) -> None:
    """What PostgreSQL's manual makes by `openssl req -x509`: an authority by mistake."""
    own = self_signed(tmp_path, "localhost", ec.generate_private_key(ec.SECP384R1()), hashes.SHA384())
    with shown(guarded, own.cert, own.key):
        for mode in ("verify-ca", "verify-full"):
            trust = {"sslmode": mode, "sslrootcert": own.cert, "channel_binding": "require"}
            assert is_encrypted(before(before_guarded, guarded, "localhost", **trust))
        assert "NotValidForName" in trouble(before_guarded, guarded, sslmode="verify-full", sslrootcert=own.cert)


def test_where_tls_is_asked_for_allow_finds_it(guarded: Guarded, before_guarded: StartProxy) -> None:
    with guarded.with_hba("hostnossl all all 127.0.0.1/32 reject"):
        assert is_encrypted(before(before_guarded, guarded, sslmode="allow"))
        assert "pg_hba.conf" in trouble(before_guarded, guarded, sslmode="disable")
    with guarded.with_hba("hostssl all app,highwater 127.0.0.1/32 reject"):
        assert not is_encrypted(before(before_guarded, guarded, sslmode="prefer"))


def test_servers_are_reached_by_unix_sockets(guarded: Guarded, before_guarded: StartProxy) -> None:
    """Where TLS is never used, whatever `sslmode` says, as in libpq."""
    by_socket = f"postgres://highwater@/shop?host={guarded.folder}&sslmode=require"
    urls = [(server.name, f"{by_socket}&port={server.port}") for server in guarded.servers]
    proxy = before_guarded(*urls, sections=[APP])
    for server in guarded.servers:
        assert not is_encrypted(proxy, dbname=f"shop@{server.name}")


def test_a_server_without_tls(lab: Lab, start_proxy: StartProxy) -> None:
    servers = [(server.name, url(server, sslmode="require")) for server in lab.servers]
    proxy = start_proxy(*servers, wait_for="cannot probe the server")
    assert "no TLS" in proxy.server("primary")["trouble"]


def test_logins_are_bound_to_the_channel(guarded: Guarded, before_guarded: StartProxy) -> None:
    assert is_encrypted(before(before_guarded, guarded, sslmode="require", channel_binding="require"))
    assert is_encrypted(before(before_guarded, guarded, sslmode="require", channel_binding="disable"))
    told = trouble(before_guarded, guarded, sslmode="disable", channel_binding="require")
    assert "SCRAM-SHA-256-PLUS" in told


def test_learned_keys_are_bound_too(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    proxy = before(before_guarded, guarded, sslmode="require", channel_binding="require")
    for place in ("shop@primary", "shop@standby1"):
        assert is_encrypted(proxy, user=role, password="secret", dbname=place)


def test_the_proxy_shows_its_own_certificate(
    guarded: Guarded, before_guarded: StartProxy, authority: Authority
) -> None:
    own = authority.issue("highwater", common_name="highwater")
    for server in guarded.servers:
        server.setting("ssl_ca_file", guarded.install("ca.crt", authority.file.read_bytes()))
    with guarded.with_hba("hostssl all highwater 127.0.0.1/32 cert"):
        shows = {"sslcert": own.cert, "sslkey": own.key}
        proxy = before(before_guarded, guarded, sslmode="require", **shows)
        assert {row["trouble"] for row in proxy.console("SHOW SERVERS")} == {""}
        assert "certificate" in trouble(before_guarded, guarded, sslmode="require")


def test_statements_are_cancelled_over_tls(guarded: Guarded, before_guarded: StartProxy) -> None:
    with guarded.with_hba("hostnossl all app,highwater 127.0.0.1/32 reject"):
        proxy = before(before_guarded, guarded, sslmode="require")
        with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
            assert sqlstate_of_cancelled(client) == "57014"


def test_large_answers_and_copies_pass(guarded: Guarded, before_guarded: StartProxy) -> None:
    proxy = before(before_guarded, guarded, sslmode="require")
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        rows = client.cursor().stream("SELECT repeat('x', 10000) FROM generate_series(1, 3000)")
        assert sum(len(row[0]) for row in rows) == 30_000_000
        client.execute("CREATE TEMPORARY TABLE heap (line text)")
        with client.cursor().copy("COPY heap FROM STDIN") as copy:
            for number in range(20_000):
                copy.write_row((f"{number}" * 200,))
        assert client.execute("SELECT count(*), sum(length(line)) FROM heap").fetchone() == (
            20_000,
            sum(len(str(number)) * 200 for number in range(20_000)),
        )


def test_certificates_for_servers_are_read_again(
    guarded: Guarded, before_guarded: StartProxy, authority: Authority, tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(authority.file.read_bytes())
    proxy = before(before_guarded, guarded, sslmode="verify-ca", sslrootcert=root)
    assert is_encrypted(proxy)
    root.write_text("nothing of use")
    os.kill(proxy.pid, signal.SIGHUP)
    until("the complaint", lambda: "cannot be used, so the old content stays" in proxy.log)
    guarded.throw_out("app")
    assert is_encrypted(proxy)
    root.write_bytes(Authority(tmp_path, "stranger").file.read_bytes())
    until("it to be read", lambda: "read again" in proxy.log)
    guarded.throw_out("app")
    assert refusal(proxy) == "08006"


def test_a_server_that_stuffs_the_buffer_is_not_believed(before_guarded: StartProxy) -> None:
    """CVE-2021-23222: what comes in the clear behind the answer to SSLRequest must not count as sent inside."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    peer, _ = listener.accept()
                    with peer:
                        if peer.recv(8) == struct.pack(">II", 8, 80877103):
                            peer.sendall(b"S" + b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
                            peer.recv(1024)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        impostor = f"postgres://highwater:highwater@127.0.0.1:{port}/shop?sslmode=require"
        proxy = before_guarded(("db", impostor), sections=[APP], wait_for="cannot probe the server")
        assert "unencrypted data" in proxy.server("db")["trouble"]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
