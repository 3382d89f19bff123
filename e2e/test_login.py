"""Getting in without a password in anybody's configuration: passwords looked up, keys learned, changes noticed."""

import os
import signal
import subprocess
from pathlib import Path
from threading import Thread

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import SqlError
from harness.guarded import Guarded, md5, verifier
from harness.lab import binary
from harness.proxy import Proxy
from harness.refusals import refusal
from harness.waiting import until

# Each role is asked for on each server by name, so that no choice of route hides one.
PLACES = ["shop@primary", "shop@standby1"]


def whoami(proxy: Proxy, user: str, password: str, database: str = "shop", **more: str) -> str:
    """Log in by libpq and ask the server who that is."""
    parameters = proxy.parameters(database, user, password) | more
    with psycopg.connect(**parameters, autocommit=True) as client:
        return str(client.execute("SELECT current_user").fetchone()[0])


def test_every_driver_logs_in(guarded: Guarded, before_guarded: StartProxy, connect: Connect) -> None:
    role = guarded.role("secret")
    proxy = before_guarded()
    client = connect(proxy, user=role, password="secret")
    client.run("CREATE TABLE IF NOT EXISTS seen (v int)")
    assert client.value("SELECT current_user::text") == role
    with pytest.raises((SqlError, psycopg.OperationalError)) as refused:
        connect(proxy, user=role, password="Secret")
    assert f'password authentication failed for user "{role}"' in str(refused.value)


def test_the_learned_key_opens_connections_to_all_servers(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    proxy = before_guarded()
    for place in PLACES:
        assert whoami(proxy, role, "secret", place) == role
    assert all(guarded.connections(role).values())


@pytest.mark.parametrize(
    "stored",
    [verifier("secret", bytes(range(32)), 10_000), verifier("secret", b"s", 1), verifier("secret", bytes(64), 4096)],
    ids=["salt of 32 bytes", "salt of one byte", "salt of 64 bytes"],
)
def test_any_salt_and_number_of_rounds(guarded: Guarded, before_guarded: StartProxy, stored: str) -> None:
    role = guarded.role(stored)
    proxy = before_guarded()
    assert whoami(proxy, role, "secret") == role
    assert refusal(proxy, user=role, password="wrong") == "28P01"


def test_an_old_role_logs_in_by_md5(guarded: Guarded, before_guarded: StartProxy, connect: Connect) -> None:
    role = guarded.role("x")
    guarded.alter(role, f"PASSWORD '{md5(role, 'secret')}'")
    proxy = before_guarded()
    assert connect(proxy, user=role, password="secret").value("SELECT current_user::text") == role
    for place in PLACES:
        assert whoami(proxy, role, "secret", place) == role
    assert refusal(proxy, user=role, password="wrong") == "28P01"


OUTSIDERS = {
    "may not log in": "NOLOGIN",
    "has expired": "VALID UNTIL '2020-01-01'",
    "is a superuser": "SUPERUSER",
}


@pytest.mark.parametrize("options", OUTSIDERS.values(), ids=OUTSIDERS.keys())
def test_who_may_not_in(guarded: Guarded, before_guarded: StartProxy, options: str) -> None:
    role = guarded.role("secret")
    guarded.alter(role, options)
    assert refusal(before_guarded(), user=role, password="secret") == "28P01"


def test_a_role_without_password_and_nobody_look_alike(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("x")
    guarded.alter(role, "PASSWORD NULL")
    proxy = before_guarded()
    assert {refusal(proxy, user=user, password="") for user in (role, "nobody")} == {"28P01"}


def test_a_password_holds_until_its_last_day(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret", "VALID UNTIL '2100-01-01'")
    proxy = before_guarded()
    assert whoami(proxy, role, "secret") == role
    guarded.alter(role, "VALID UNTIL '2020-01-01'")
    assert refusal(proxy, user=role, password="secret") == "28P01"


def test_a_changed_password_holds_at_once(guarded: Guarded, before_guarded: StartProxy, plain: Connect) -> None:
    role = guarded.role("old")
    proxy = before_guarded()
    early = plain(proxy, user=role, password="old")
    assert early.value("SELECT 1") == 1
    guarded.alter(role, "PASSWORD 'new'")
    assert refusal(proxy, user=role, password="old") == "28P01"
    assert whoami(proxy, role, "new") == role
    # Who was in stays in, as on PostgreSQL.
    assert early.value("SELECT 2") == 2
    # And what the servers' connections are opened with is the new key.
    guarded.throw_out(role)
    for place in PLACES:
        assert whoami(proxy, role, "new", place) == role


def test_a_key_that_is_out_of_date_opens_nothing(guarded: Guarded, before_guarded: StartProxy, plain: Connect) -> None:
    role = guarded.role("old")
    proxy = before_guarded()
    early = plain(proxy, user=role, password="old", database="shop@primary")
    assert early.value("SELECT 1") == 1
    guarded.alter(role, "PASSWORD 'new'")
    guarded.throw_out(role)
    for _ in range(2):
        with pytest.raises(SqlError) as refused:
            early.value("SELECT 1")
        assert refused.value.sqlstate in ("28P01", "28000")
    # Somebody proves the new one, and the old session is served again.
    assert whoami(proxy, role, "new") == role
    assert early.value("SELECT 1") == 1


def test_many_log_in_at_once_while_the_password_changes(guarded: Guarded, before_guarded: StartProxy) -> None:
    """Logins share questions, and each gets an answer from after its arrival."""
    role = guarded.role("pw0")
    proxy = before_guarded()
    outcomes: list[str] = []

    def log_in(password: str) -> None:
        outcomes.append(refusal(proxy, user=role, password=password, database="shop@primary"))

    for number in range(4):
        current, other = f"pw{number}", f"pw{number + 1}"
        guarded.primary.rows(f"ALTER ROLE {role} PASSWORD '{current}'")
        threads = [Thread(target=log_in, args=(password,)) for password in [current] * 6 + [other] * 6]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(outcomes) == [""] * 6 + ["28P01"] * 6
        outcomes.clear()


def test_a_late_standby_costs_nobody_his_key(guarded: Guarded, before_guarded: StartProxy, plain: Connect) -> None:
    role = guarded.role("old")
    proxy = before_guarded()
    (standby,) = guarded.standbys
    standby.pause()
    try:
        guarded.primary.rows(f"ALTER ROLE {role} PASSWORD 'new'")
        client = plain(proxy, user=role, password="new", settings={"highwater.consistency": "eventual"})
        assert client.value("SELECT 1") == 1
        assert client.server() == "primary"
    finally:
        standby.resume()
    guarded.settle()
    assert whoami(proxy, role, "new", "shop@standby1") == role


def test_a_dropped_role_is_gone_at_once(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    proxy = before_guarded()
    assert whoami(proxy, role, "secret") == role
    guarded.primary.rows(f"DROP ROLE {role}")
    assert refusal(proxy, user=role, password="secret") == "28P01"


def test_standbys_are_asked_while_the_primary_is_away(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    proxy = before_guarded()
    assert whoami(proxy, role, "secret", "shop@standby1") == role
    with guarded.primary.down():
        assert whoami(proxy, role, "secret", "shop@standby1") == role
        assert refusal(proxy, user=role, password="wrong", database="shop@standby1") == "28P01"
    until("the primary to be found again", lambda: proxy.server("primary")["role"] == "primary")
    assert whoami(proxy, role, "secret", "shop@primary") == role


def test_without_any_server_it_says_so(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    proxy = before_guarded(("db", guarded.primary.url))
    with guarded.primary.down():
        assert refusal(proxy, user=role, password="secret") == "57P03"


def test_what_to_run_is_said_in_one_line(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("secret")
    guarded.forbid_lookup()
    try:
        proxy = before_guarded()
        hint = "may not look passwords up"
        line = until("the hint", lambda: [line for line in proxy.log.splitlines() if hint in line])
        assert len(line) == 1
        assert "CREATE OR REPLACE FUNCTION highwater.lookup" in line[0]
        assert "GRANT EXECUTE ON FUNCTION" in line[0]
        assert refusal(proxy, user=role, password="secret") == "28P01"
    finally:
        guarded.allow_lookup()
    until("it to be noticed", lambda: refusal(proxy, user=role, password="secret") == "")


def test_a_function_that_no_superuser_made_is_not_believed(guarded: Guarded, before_guarded: StartProxy) -> None:
    intruder = guarded.role("x")
    guarded.forbid_lookup()
    try:
        guarded.primary.rows(
            f"CREATE SCHEMA highwater AUTHORIZATION {intruder}; GRANT USAGE ON SCHEMA highwater TO PUBLIC;"
            f"SET ROLE {intruder};"
            "CREATE FUNCTION highwater.lookup(text, OUT rolname name, OUT rolpassword text)"
            " LANGUAGE sql SECURITY DEFINER AS $$ SELECT $1::name, 'guess' $$"
        )
        proxy = before_guarded()
        assert refusal(proxy, user="app", password="guess") == "28P01"
        assert "may not look passwords up" in proxy.log
    finally:
        guarded.forbid_lookup()
        guarded.allow_lookup()


def test_the_lookup_gives_away_no_more_than_it_must(guarded: Guarded) -> None:
    role = guarded.role("secret")
    may = "SELECT has_function_privilege(%s, 'highwater.lookup(text)', 'EXECUTE')"
    assert [guarded.primary.value(may, name) for name in ("highwater", role, "app")] == [True, False, False]
    found = "SELECT count(*) FROM highwater.lookup(%s) WHERE rolpassword IS NOT NULL"
    assert [guarded.primary.value(found, name) for name in (role, "postgres", "pg_monitor")] == [1, 0, 0]


def test_another_statement_and_role_may_look_passwords_up(guarded: Guarded, before_guarded: StartProxy) -> None:
    role, asking = guarded.role("secret"), guarded.role("asks")
    guarded.primary.rows(
        f"CREATE SCHEMA {asking} AUTHORIZATION postgres; GRANT USAGE ON SCHEMA {asking} TO {asking};"
        f"CREATE FUNCTION {asking}.find(who text) RETURNS TABLE (name text, hash text) LANGUAGE sql SECURITY DEFINER"
        " AS $$ SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname = who $$"
    )
    guarded.settle()
    guarded.forbid_lookup()
    try:
        proxy = before_guarded(
            auth_query=f"SELECT name, hash FROM {asking}.find($1)",
            auth_user=asking,
            sections=[("user", {"name": asking, "password": "asks"})],
        )
        assert whoami(proxy, role, "secret") == role
        assert refusal(proxy, user=role, password="wrong") == "28P01"
    finally:
        guarded.allow_lookup()


def test_kept_answers_are_doubted_after_a_wrong_password(guarded: Guarded, before_guarded: StartProxy) -> None:
    role = guarded.role("old")
    proxy = before_guarded(auth_query_cache="1h")
    assert whoami(proxy, role, "old") == role
    guarded.alter(role, "PASSWORD 'new'")
    # The first attempt meets the old salt; it makes the answer be fetched again.
    until("the new password to hold", lambda: refusal(proxy, user=role, password="new") == "")
    assert refusal(proxy, user=role, password="old") == "28P01"


def password_file(folder: Path, *entries: tuple[str, str]) -> Path:
    """A file of users and passwords."""
    file = folder / "userlist.txt"
    file.write_text("; users\n" + "".join(f'"{user}" "{password}"\n' for user, password in entries))
    return file


def test_a_password_file_will_do(guarded: Guarded, before_guarded: StartProxy, tmp_path: Path) -> None:
    plain, scram, old = (guarded.role("x") for _ in range(3))
    stored = verifier("secret", b"0123456789abcdef", 4096)
    guarded.alter(plain, "PASSWORD 'secret'")
    guarded.alter(scram, f"PASSWORD '{stored}'")
    guarded.alter(old, f"PASSWORD '{md5(old, 'secret')}'")
    file = password_file(tmp_path, (plain, "secret"), (scram, stored), (old, md5(old, "secret")))
    guarded.forbid_lookup()
    try:
        proxy = before_guarded(password_file=str(file))
        for role in (plain, scram, old):
            for place in PLACES:
                assert whoami(proxy, role, "secret", place) == role
            assert refusal(proxy, user=role, password="wrong") == "28P01"
    finally:
        guarded.allow_lookup()


def test_a_password_file_is_read_again(guarded: Guarded, before_guarded: StartProxy, tmp_path: Path) -> None:
    role = guarded.role("two")
    file = password_file(tmp_path, (role, "one"))
    proxy = before_guarded(password_file=str(file))
    assert refusal(proxy, user=role, password="two") == "28P01"
    password_file(tmp_path, (role, "two"))
    until("the file to be read again", lambda: refusal(proxy, user=role, password="two") == "")
    file.write_text(f'"{role}" "two"\n{role} three\n')
    os.kill(proxy.pid, signal.SIGHUP)
    complaint = until("the complaint", lambda: [it for it in proxy.log.splitlines() if "userlist.txt, line 2" in it])
    assert "three" not in complaint[0]
    assert refusal(proxy, user=role, password="two") == ""


def test_a_bad_password_file_is_told(tmp_path: Path, guarded: Guarded) -> None:
    file = tmp_path / "userlist.txt"
    file.write_text('"a" "b"\nsecret\n')
    command = [binary(), "run", "--server", guarded.primary.url, "--listen", "127.0.0.1:0"]
    done = subprocess.run([*command, "--set", f"password_file={file}"], capture_output=True, text=True, timeout=20)
    assert done.returncode not in (0, 101)
    assert "password_file" in done.stderr
    assert "line 2" in done.stderr
    assert "secret" not in done.stderr


def test_secrets_are_never_logged(
    guarded: Guarded, before_guarded: StartProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIGHWATER_LOG", "trace")
    role, old = guarded.role("correct-horse"), guarded.role("x")
    guarded.alter(old, f"PASSWORD '{md5(old, 'battery-staple')}'")
    proxy = before_guarded(password_file=str(password_file(tmp_path, ("other", "never-shown"))))
    assert whoami(proxy, role, "correct-horse") == role
    assert whoami(proxy, old, "battery-staple") == old
    assert refusal(proxy, user="other", password="wrong") == "28P01"
    stored = guarded.primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", role)
    keys = stored.split("$")[2].split(":")
    for secret in ["correct-horse", "battery-staple", "never-shown", md5(old, "battery-staple")[3:], *keys]:
        assert secret not in proxy.log
