"""`highwater doctor` finds on real servers what would hurt, says so to people and scripts, and is quiet otherwise."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import StartProxy
from harness.lab import Lab, Server, binary, paused
from harness.waiting import until

# What the lab's own settings deserve.
USUAL = {
    ("note", "asynchronous-replication", "primary"),
    ("note", "slots-unbounded", "primary"),
    ("note", "cancelled-reads", "standby1"),
    ("note", "cancelled-reads", "standby2"),
    ("note", "lag", "standby1"),
    ("note", "lag", "standby2"),
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


def test_a_cluster_in_order_has_only_notes(lab: Lab) -> None:
    assert found(lab.servers) == (0, set())
    told = run(lab.servers)
    assert told.returncode == 0
    assert "primary: no standby is synchronous" in told.stdout
    assert told.stdout.splitlines()[-1] == "3 servers: 0 errors, 0 warnings, 6 notes"


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
        ("standby1", "hot_standby_feedback", "on", ("note", "feedback", "standby1")),
        ("standby1", "max_standby_streaming_delay", "0", ("warning", "quick-cancels", "standby1")),
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
        fixes = run(urls).stdout
        assert 'GRANT pg_monitor TO "prober"; on the primary' in fixes
        assert 'ALTER ROLE "prober" REPLICATION; on the primary' in fixes
        with lab.primary.with_setting("synchronous_standby_names", "*"):
            told = run(urls).stdout
        assert "for no other (who that is now is not known)" in told
    with role(lab, "SUPERUSER") as urls:
        status, findings = found(urls)
        assert (status, findings) == (1, {("warning", "superuser", name) for name in names})


def test_why_nothing_is_known_is_told_apart(lab: Lab, start_proxy: StartProxy) -> None:
    def why(url: str) -> set[tuple[str, str, str | None]]:
        status, findings = found([*lab.standbys, ("db", url)])
        assert status == 2
        return {finding for finding in findings if finding[2] == "db"}

    good = lab.primary.url
    assert why(good.replace(":highwater@", ":wrong@")) == {("error", "login-refused", "db")}
    assert why(good.replace("/shop", "/nowhere")) == {("error", "login-refused", "db")}
    assert why(f"{good}?sslmode=require") == {("error", "tls-failed", "db")}
    # Highwater itself is a pooler, too.
    behind = good.replace(f":{lab.primary.port}/", f":{start_proxy().port}/")
    assert why(behind) == {("error", "pooler", "db")}
    lab.primary.rows("ALTER ROLE highwater CONNECTION LIMIT 0")
    lab.primary.rows("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    try:
        assert why(good) == {("error", "no-room", "db")}
        lab.primary.rows("ALTER ROLE highwater CONNECTION LIMIT -1")
        assert why(good) == {("error", "not-allowed", "db")}
    finally:
        lab.primary.rows("ALTER ROLE highwater CONNECTION LIMIT -1")
        lab.primary.rows("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")


def test_slots_are_looked_after(cluster: Lab) -> None:
    primary, standby = cluster.primary, cluster["standby1"]
    primary.setting("wal_keep_size", "0")
    standby.setting("primary_slot_name", "")
    sql = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND slot_name IS NULL"
    until("the standby to stream without a slot", lambda: standby.value(sql))
    idle = {("warning", "no-slot", "standby1"), ("warning", "slot-idle", "primary")}
    assert found(cluster.servers) == (1, idle)
    assert "without an end (max_slot_wal_keep_size = -1): the disk fills" in run(cluster.servers).stdout
    primary.rows("SELECT pg_drop_replication_slot('standby1')")
    assert found(cluster.servers) == (1, {("warning", "no-slot", "standby1")})
    primary.setting("wal_keep_size", "64MB")
    assert found(cluster.servers) == (0, set())

    primary.rows("SELECT pg_create_physical_replication_slot('left', true)")
    primary.setting("max_slot_wal_keep_size", "1MB")
    for _ in range(12):
        primary.rows("SELECT pg_logical_emit_message(true, 'e2e', ''), pg_switch_wal()")
    # The other standby's slot must not be lost, too.
    cluster.settle()
    sql = "SELECT restart_lsn >= pg_current_wal_flush_lsn() FROM pg_replication_slots WHERE slot_name = 'standby2'"
    until("the other standby to say that it has all", lambda: primary.value(sql))
    primary.rows("CHECKPOINT")
    assert found(cluster.servers) == (2, {("error", "slot-lost", "primary")})


def test_a_standby_that_admits_nobody_is_told_from_one_that_is_away(cluster: Lab) -> None:
    standby = cluster["standby1"]
    standby.setting("hot_standby", "off")
    standby.stop()
    # It waits in vain for a standby that can be asked.
    command = [binary(), "lab", "start", "standby1", "--dir", cluster.folder]
    starting = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        off = ("error", "hot-standby-off", "standby1")
        until("the doctor to see it", lambda: off in found(cluster.servers)[1])
    finally:
        starting.kill()
        starting.wait()


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


def test_a_chain_and_a_second_primary_are_told(cluster: Lab) -> None:
    middle, end = cluster.standbys
    end.follow(middle)
    status, findings = found(cluster.servers)
    assert findings == {
        ("note", "cascade", "standby2"),
        # Its own, which it does not need any more; and it has none where it streams from now.
        ("warning", "slot-idle", "primary"),
    }
    assert status == 1
    middle.rows("SELECT pg_promote()")
    until("the promotion", lambda: not middle.value("SELECT pg_is_in_recovery()"))
    status, findings = found(cluster.servers)
    assert ("error", "two-primaries", None) in findings
    assert status == 2


def test_a_bad_configuration_is_an_error_of_its_own(lab: Lab) -> None:
    done = run([("db", "mysql://nobody@127.0.0.1/shop")])
    assert done.returncode == 2
    assert done.stderr.startswith("highwater: --server db=mysql://...@127.0.0.1/shop: not a URL")
    assert done.stdout == ""
