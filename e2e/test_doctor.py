"""`highwater doctor` finds on real servers what would hurt, says so to people and scripts, and is quiet otherwise."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from harness.lab import Lab, Server, binary, paused
from harness.waiting import until

# What the lab's own settings deserve.
USUAL = {
    ("note", "asynchronous-replication", "primary"),
    ("note", "slots-unbounded", "primary"),
    ("note", "cancelled-reads", "standby1"),
    ("note", "cancelled-reads", "standby2"),
}


def run(servers: Sequence[Server | tuple[str, str]], *options: str) -> subprocess.CompletedProcess[str]:
    """The command, as anybody would call it."""
    named = [(server.name, server.url) if isinstance(server, Server) else server for server in servers]
    urls = [option for name, url in named for option in ("--server", f"{name}={url}")]
    return subprocess.run([binary(), "doctor", *urls, *options], capture_output=True, text=True, timeout=30)


def found(servers: Sequence[Server | tuple[str, str]], *options: str) -> tuple[int, set[tuple[str, str, str | None]]]:
    """The exit status, and what is not usual."""
    done = run(servers, "--json", *options)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    assert all(finding["reason"] and finding["fix"] for finding in findings)
    return done.returncode, {(one["severity"], one["check"], one["server"]) for one in findings} - USUAL


@pytest.fixture
def own() -> Iterator[Lab]:
    """A primary and two standbys for one test."""
    lab = Lab(standbys=2)
    yield lab
    lab.close()


def test_a_cluster_in_order_has_only_notes(lab: Lab) -> None:
    assert found(lab.servers) == (0, set())
    told = run(lab.servers)
    assert told.returncode == 0
    assert "primary: no standby is synchronous" in told.stdout
    assert told.stdout.splitlines()[-1] == "3 servers: 0 errors, 0 warnings, 4 notes"


@pytest.mark.parametrize(
    ("where", "setting", "value", "expected"),
    [
        ("primary", "fsync", "off", ("error", "fsync", "primary")),
        ("primary", "full_page_writes", "off", ("error", "full_page_writes", "primary")),
        ("primary", "synchronous_standby_names", "nobody", ("error", "nobody-acknowledges", "primary")),
        ("primary", "synchronous_standby_names", "*", ("note", "synchronous-replication", "primary")),
        ("primary", "synchronous_commit", "off", ("warning", "asynchronous-commit", "primary")),
        ("primary", "wal_sender_timeout", "0", ("warning", "no-sender-timeout", "primary")),
        ("primary", "default_transaction_isolation", "serializable", ("warning", "serializable", "primary")),
        ("standby1", "recovery_min_apply_delay", "1h", ("warning", "delayed", "standby1")),
        ("standby1", "max_standby_streaming_delay", "-1", ("warning", "replay-waits-for-ever", "standby1")),
        ("standby1", "wal_receiver_status_interval", "0", ("warning", "no-feedback", "standby1")),
    ],
)
def test_a_setting_is_found(lab: Lab, where: str, setting: str, value: str, expected: tuple[str, str, str]) -> None:
    with lab[where].with_setting(setting, value):
        if value == "*":
            sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            until("a standby to be synchronous", lambda: lab.primary.value(sql) == 1)
        status, findings = found(lab.servers)
    assert expected in findings
    assert status == {"note": 0, "warning": 1, "error": 2}[expected[0]]


def test_a_list_of_synchronous_standbys_is_put_into_words(lab: Lab) -> None:
    with lab.primary.with_setting("synchronous_standby_names", "ANY 1 (standby1, standby2)"):
        sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
        until("the standbys to be synchronous", lambda: lab.primary.value(sql) == 2)
        told = run(lab.servers).stdout
    assert "means that a commit waits for any 1 of standby1, standby2 (now standby1, standby2)" in told


def test_defaults_of_roles_count(lab: Lab) -> None:
    lab.primary.rows("ALTER ROLE app SET synchronous_commit = off")
    try:
        assert found(lab.servers) == (1, {("warning", "asynchronous-commit", "primary")})
        status, findings = found(lab.servers, "--set", "commit_visibility=sync_only")
        assert (status, findings) == (2, {("error", "sync-only-broken", "primary")})
    finally:
        lab.primary.rows("ALTER ROLE app RESET synchronous_commit")


def test_a_standby_in_trouble_is_found(lab: Lab) -> None:
    standby = lab["standby1"]
    with paused(standby):
        assert found(lab.servers) == (1, {("warning", "paused", "standby1")})
    cut = {("error", "not-streaming", "standby1"), ("warning", "slot-idle", "primary")}
    conninfo = standby.value("SHOW primary_conninfo")
    with standby.with_setting("primary_conninfo", "host=127.0.0.1 port=1"):
        until("the standby to be cut off", lambda: not standby.value("SELECT count(*) FROM pg_stat_wal_receiver"))
        until("the doctor to see it", lambda: found(lab.servers) == (2, cut))
    standby.setting("primary_conninfo", conninfo)
    with standby.down():
        status, findings = found(lab.servers)
        assert status == 2
        assert findings == {("error", "unreachable", "standby1"), ("warning", "slot-idle", "primary")}


@contextmanager
def role(lab: Lab, options: str) -> Iterator[list[tuple[str, str]]]:
    """URLs with another probing role."""
    lab.primary.rows(f"CREATE ROLE prober LOGIN {options}")
    lab.settle()
    try:
        # Nobody asks this one for a password.
        urls = [server.url.replace("highwater:highwater@", "prober@") for server in lab.servers]
        yield [(server.name, url) for server, url in zip(lab.servers, urls, strict=True)]
    finally:
        lab.primary.rows("DROP ROLE prober")


def test_what_the_role_lacks_is_said(lab: Lab) -> None:
    names = [server.name for server in lab.servers]
    with role(lab, "") as urls:
        status, findings = found(urls)
        assert status == 1
        missing = ("no-monitor", "no-history", "no-lookup")
        assert findings == {("warning", check, name) for check in missing for name in names}
    with role(lab, "SUPERUSER") as urls:
        status, findings = found(urls)
        assert (status, findings) == (1, {("warning", "superuser", name) for name in names})


def test_a_reader_who_has_seen_enough_does_no_harm(lab: Lab) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [binary(), "doctor", "--server", f"db={lab.standbys[0].url}"]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=30)
    os.close(writes)
    assert (done.returncode, done.stderr) == (2, b"")


def test_strangers_and_doubles_are_found(lab: Lab, other_lab: Lab) -> None:
    stranger = ("stranger", other_lab.primary.url)
    status, findings = found([*lab.servers, stranger])
    assert status == 2
    assert findings == {("error", "other-cluster", "stranger")}
    status, findings = found([*lab.servers, ("again", lab.primary.url)])
    assert ("warning", "same-server", None) in findings
    assert found(lab.standbys)[1] >= {("error", "no-primary", None)}


def test_a_chain_and_a_second_primary_are_told(own: Lab) -> None:
    middle, end = own.standbys
    end.follow(middle)
    status, findings = found(own.servers)
    assert findings == {
        ("note", "cascade", "standby2"),
        # Its own, which it does not need any more; and it has none where it streams from now.
        ("warning", "slot-idle", "primary"),
    }
    assert status == 1
    middle.rows("SELECT pg_promote()")
    until("the promotion", lambda: not middle.value("SELECT pg_is_in_recovery()"))
    status, findings = found(own.servers)
    assert ("error", "two-primaries", None) in findings
    assert status == 2


def test_a_bad_configuration_is_an_error_of_its_own(lab: Lab) -> None:
    done = run([("db", "mysql://nobody@127.0.0.1/shop")])
    assert done.returncode == 2
    assert done.stderr.startswith("highwater: --server db=mysql://...@127.0.0.1/shop: not a URL")
    assert done.stdout == ""
