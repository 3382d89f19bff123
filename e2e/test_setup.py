"""Configuration, start and end: complaints that say where, and an orderly end."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.lab import Lab, binary
from harness.proxy import Proxy
from harness.schema import Row

COMPLAINTS = [
    ('listen = ["127.0.0.1:0"]\nwait_budgte = "1ms"\n', ["highwater.toml", "line 2", "wait_budgte"]),
    ('wait_budget = "soon"\n', ["highwater.toml", "line 1", "wait_budget", "soon"]),
    ('consistency = "fresh"\n', ["highwater.toml", "line 1", "consistency", "fresh"]),
    ("pool_size = -1\n", ["highwater.toml", "line 1", "pool_size"]),
    ('pool_size = "many"\n', ["highwater.toml", "line 1", "pool_size"]),
    ('[[server]]\nname = "a"\nurl = "mysql://x"\n', ["highwater.toml", "line 3", "url", "postgres://"]),
    ('[[server]]\nname = "a"\n', ["highwater.toml", "line 1", "url"]),
    ("listen = [\n", ["highwater.toml", "line 1", "listen"]),
    ("workers = 1\n", ["server"]),
]


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the proxy's program to its end."""
    return subprocess.run([binary(), *words], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(
    ("text", "told"), COMPLAINTS, ids=[" ".join(told[1:]) or "no server" for _, told in COMPLAINTS]
)
def test_a_bad_file_is_told_with_line_and_key(tmp_path: Path, text: str, told: list[str]) -> None:
    config = tmp_path / "highwater.toml"
    config.write_text(text)
    done = run("run", "--config", config)
    assert done.returncode not in (0, 101), done.stderr
    assert [word for word in told if word not in done.stderr] == []


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = run("run", "--config", tmp_path / "nowhere.toml")
    assert done.returncode not in (0, 101)
    assert "nowhere.toml" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--server", "mysql://x"],
        ["--server", "postgres://u@h/d", "--set", "pool_size=none"],
        ["--server", "postgres://u@h/d", "--set", "pool_sise=3"],
        ["--server", "postgres://u@h/d", "--listen", "everywhere"],
        ["--server", "postgres://u@h/d", "--auth", "magic"],
        [],
    ],
    ids=lambda words: " ".join(words[-1:]),
)
def test_a_bad_command_line_is_told(words: list[str]) -> None:
    done = run("run", *words)
    assert done.returncode not in (0, 101)
    assert done.stderr


def test_a_taken_port_is_told(proxy: Proxy, lab: Lab) -> None:
    done = run("run", "--server", lab.primary.url, "--listen", f"127.0.0.1:{proxy.port}")
    assert done.returncode not in (0, 101)
    assert str(proxy.port) in done.stderr


def test_settings_are_shown(start_proxy: StartProxy) -> None:
    proxy = start_proxy(wait_budget="33ms", pool_size=7)
    shown = {row["key"]: row["value"] for row in proxy.console("SHOW CONFIG")}
    assert shown["wait_budget"] == "33ms"
    assert shown["pool_size"] == "7"


def test_passwords_are_never_shown_nor_logged(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    secret = "correct-horse-battery"
    with lab.primary.connect() as direct:
        direct.execute(f"CREATE ROLE prober_{row.id} LOGIN REPLICATION PASSWORD '{secret}' IN ROLE pg_monitor")
    role = f"prober_{row.id}:{secret}"
    urls = [(server.name, server.url.replace("highwater:highwater", role)) for server in lab.servers]
    proxy = start_proxy(*urls)
    row.read(connect(proxy))
    shown = [
        proxy.console(f"SHOW {what}", user=f"prober_{row.id}", password=secret)
        for what in ("CONFIG", "SERVERS", "POOLS", "CLIENTS")
    ]
    assert secret not in str(shown)
    assert secret not in proxy.log


def test_trust_lets_anybody_in(start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(auth="trust")
    client = connect(proxy, user="trusted", password="whatever")
    row.write(client, 1)
    assert row.read(client) == 1
    assert client.value("SELECT current_user::text") == "trusted"


def test_a_unix_socket(start_proxy: StartProxy, tmp_path: Path, row: Row) -> None:
    proxy = start_proxy(listen=["127.0.0.1:0", f"unix:{tmp_path}"])
    (path,) = tmp_path.glob(".s.PGSQL.*")
    parameters = proxy.parameters() | {"host": str(path.parent), "port": path.name.rpartition(".")[2]}
    with psycopg.connect(**parameters) as client:
        assert client.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (0,)
    proxy.stop()
    assert not path.exists()


def test_an_orderly_end(start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy()
    assert row.read(plain(proxy)) == 0
    # Checks the exit status and the log.
    proxy.stop()
