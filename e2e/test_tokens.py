"""Tokens are untrusted text: a bad one costs its bearer a warning, and never anybody a right answer."""

import re
import threading
import time

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.forgery import forged
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row

SESSION = {"highwater.consistency": "session"}
STANDBYS = {"standby1", "standby2"}


@pytest.mark.parametrize(
    "text",
    ["nonsense", "", "x" * 10_000, "1", "ÄÖ", "hw1.AAAA", "'; DROP TABLE counter; --"],
    ids=lambda text: text[:8],
)
def test_garbage_is_ignored_with_a_warning(proxy: Proxy, connect: Connect, row: Row, text: str) -> None:
    client = connect(proxy, settings=SESSION)
    quoted = text.replace("'", "''")
    client.run(f"SET highwater.token = '{quoted}'")
    if text:
        assert [notice for notice in client.notices if notice.startswith("01000 highwater.token ignored")]
    assert row.read(client) == 0
    assert client.server() in STANDBYS


def test_a_changed_token_is_ignored(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION)
    row.write(client, 1)
    token = client.token()
    for position in range(len(token)):
        other = "A" if token[position] != "A" else "B"
        client.run(f"SET highwater.token = '{token[:position]}{other}{token[position + 1 :]}'")
    assert len(client.notices) == len(token)
    assert row.read(client) == 1


def test_a_token_of_another_cluster_is_ignored(
    lab: Lab, other_lab: Lab, proxy: Proxy, start_proxy: StartProxy, connect: Connect, row: Row
) -> None:
    elsewhere = start_proxy(("lone", other_lab.primary.url))
    stranger = connect(elsewhere, settings=SESSION)
    stranger.run("INSERT INTO bulk VALUES (1, 'elsewhere')")
    client = connect(proxy, settings=SESSION)
    client.run(f"SET highwater.token = '{stranger.token()}'")
    assert "another cluster" in client.notices[0]
    assert row.read(client) == 0
    assert client.server() in STANDBYS


@pytest.mark.parametrize(
    ("lie", "answer"),
    [
        ({"lsn": 1 << 62}, "ahead of the primary"),
        ({"timeline": 77}, "timeline"),
        ({"system_id": 1}, "another cluster"),
    ],
    ids=["future", "timeline", "cluster"],
)
def test_a_well_made_lie_costs_no_more_than_a_short_wait(
    proxy: Proxy, connect: Connect, row: Row, lie: dict[str, int], answer: str
) -> None:
    client = connect(proxy, settings=SESSION)
    row.write(client, 1)
    token = client.token()
    # The control: forged without a lie it is the token itself.
    assert forged(token) == token
    stranger = connect(proxy, settings=SESSION)
    began = time.monotonic()
    stranger.run(f"SET highwater.token = '{forged(token, **lie)}'")
    assert answer in stranger.notices[0]
    row.read(stranger)
    assert stranger.server() in STANDBYS
    assert time.monotonic() - began < 5


def test_a_refused_token_does_not_push_reads_to_the_primary(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION | {"highwater.token": "forged"})
    assert client.notices == [] or "ignored" in client.notices[0]
    for _ in range(5):
        row.read(client)
        assert client.server() in STANDBYS


def test_refused_tokens_are_counted(start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy()
    client = plain(proxy)
    client.run("SET highwater.token = 'forged'")
    assert proxy.stat("tokens_refused") == 1


def test_a_refused_token_takes_nothing_away(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION)
    with paused(*lab.standbys):
        row.write(client, 1)
        client.run("SET highwater.token = 'forged'")
        assert row.read(client) == 1


def test_an_old_token_takes_nothing_away(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION)
    row.read(client)
    old = client.token()
    with paused(*lab.standbys):
        row.write(client, 1)
        client.run(f"SET highwater.token = '{old}'")
        assert row.read(client) == 1


def test_a_token_survives_rollback(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    writer, bearer = connect(proxy, settings=SESSION), connect(proxy, settings=SESSION)
    with paused(*lab.standbys):
        row.write(writer, 1)
        bearer.run("BEGIN")
        bearer.run(f"SET highwater.token = '{writer.token()}'")
        bearer.run("ROLLBACK")
        assert row.read(bearer) == 1


def test_reports_push_token_and_route(lab: Lab, proxy: Proxy, row: Row) -> None:
    """Both come before ReadyForQuery, so libpq has them when the statement is done, without a round trip."""
    options = "-c highwater.report=on -c highwater.consistency=session"
    with psycopg.connect(**proxy.parameters(), options=options, autocommit=True) as client:

        def told(name: str) -> str:
            value = client.pgconn.parameter_status(f"highwater.{name}".encode())
            assert value, name
            return value.decode()

        with paused(*lab.standbys):
            client.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
            assert told("last_route").startswith("primary ")
            token = told("token")
            with psycopg.connect(**proxy.parameters(), options=f"-c highwater.token={token}") as bearer:
                assert bearer.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (1,)
        client.execute("SET highwater.consistency = 'eventual'")
        client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
        assert told("last_route").split()[0] in STANDBYS


def test_a_route_says_how_long_was_waited_for_it(lab: Lab, proxy: Proxy, row: Row) -> None:
    """Pushed with the answer that was waited for, and not again with what follows in the same transaction."""
    options = "-c highwater.report=known -c highwater.consistency=session -c highwater.wait_budget=10s"
    read = "SELECT v FROM counter WHERE id = %s"
    with psycopg.connect(**proxy.parameters(), options=options, autocommit=True) as client:

        def route() -> list[str]:
            return (client.info.parameter_status("highwater.last_route") or "").split()

        with paused(*lab.standbys):
            client.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
            resuming = threading.Timer(0.3, lambda: [standby.resume() for standby in lab.standbys])
            resuming.start()
            client.execute("BEGIN READ ONLY")
            assert client.execute(read, (row.id,)).fetchone() == (1,)
            server, reason, waited = route()
            assert (server in STANDBYS, reason) == (True, "caught_up")
            assert 200 < float(waited.removesuffix("ms")) < 5000
            client.execute(read, (row.id,))
            assert len(route()) == 2
            client.execute("COMMIT")
            resuming.join()


def test_a_route_says_in_detail_what_had_to_be_shown_and_what_was(lab: Lab, proxy: Proxy, row: Row) -> None:
    options = "-c highwater.report=detailed -c highwater.consistency=session -c highwater.wait_budget=10s"
    with psycopg.connect(**proxy.parameters(), options=options, autocommit=True) as client:

        def told() -> tuple[str, dict[str, int]]:
            server, _, *details = (client.info.parameter_status("highwater.last_route") or "").split()
            texts = dict(detail.split("=") for detail in details if "=" in detail)
            return server, {name: _number(text) for name, text in texts.items()}

        client.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
        assert told() == ("primary", {})
        written = _number(str(lab.primary.rows("SELECT pg_current_wal_flush_lsn()")[0][0]))
        client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
        server, found = told()
        assert server in STANDBYS
        assert 0 < found["floor"] <= written
        assert found["floor"] <= found["applied"]
        client.execute("SET highwater.report = known")
        client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
        assert told()[1] == {}


def _number(position: str) -> int:
    high, low = position.split("/")
    return int(high, 16) << 32 | int(low, 16)


def test_a_switch_pushes_that_nothing_is_known_yet(proxy: Proxy, row: Row) -> None:
    """Else the last token that was pushed, which drivers keep, would be another session's."""
    with psycopg.connect(**proxy.parameters(), autocommit=True, options="-c highwater.report=on") as client:
        client.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
        assert client.info.parameter_status("highwater.token")
        for session in ("", "ann", ""):
            client.execute(f"SET highwater.session = '{session}'")
            assert client.info.parameter_status("highwater.token") == ""
            client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
            assert client.info.parameter_status("highwater.token")


def test_reports_of_what_is_known_wait_for_nothing(lab: Lab, proxy: Proxy, row: Row) -> None:
    """What a standby has shown no probe has measured yet: then an empty text says that SHOW has to be asked."""
    options = "-c highwater.report=known -c highwater.consistency=eventual"
    with psycopg.connect(**proxy.parameters(), options=options, autocommit=True) as client:
        told = []
        for value in range(1, 21):
            client.execute("UPDATE counter SET v = %s WHERE id = %s", (value, row.id))
            client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
            assert client.info.parameter_status("highwater.last_route")
            told.append(client.info.parameter_status("highwater.token"))
        assert "" in told, "a probe for each read would have been waited for"
        (token,) = client.execute("SHOW highwater.token").fetchone() or ("",)
        with paused(*lab.standbys):
            client.execute("UPDATE counter SET v = 99 WHERE id = %s", (row.id,))
            (token,) = client.execute("SHOW highwater.token").fetchone() or ("",)
            with psycopg.connect(**proxy.parameters(), options=f"-c highwater.token={token}") as bearer:
                assert bearer.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (99,)


def test_settings_go_back_to_the_start_up_packet(proxy: Proxy) -> None:
    """RESET, and SET TO DEFAULT, also for a transaction: as PostgreSQL's own."""
    with psycopg.connect(**proxy.parameters(), options="-c highwater.consistency=session", autocommit=True) as client:

        def level() -> str:
            return str((client.execute("SHOW highwater.consistency").fetchone() or ("",))[0])

        for back in ("RESET highwater.consistency", "SET highwater.consistency TO DEFAULT"):
            client.execute("SET highwater.consistency = 'eventual'")
            assert level() == "eventual"
            client.execute(back)
            assert level() == "session"
        client.execute("SET highwater.consistency = 'eventual'")
        with client.transaction():
            client.execute("SET LOCAL highwater.consistency TO DEFAULT")
            assert level() == "session"
        assert level() == "eventual"


def test_reports_are_off_unless_asked_for(proxy: Proxy) -> None:
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        client.execute("SELECT 1")
        assert client.pgconn.parameter_status(b"highwater.token") is None
        client.execute("SET highwater.report = on")
        client.execute("SELECT 1")
        assert client.pgconn.parameter_status(b"highwater.last_route")


def test_whoever_asks_for_reports_hears_the_version(proxy: Proxy) -> None:
    """Once, so that what was made for another one can say so. Nobody sets it."""
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        assert client.info.parameter_status("highwater.version") is None
        client.execute("SET highwater.report = known")
        told = client.info.parameter_status("highwater.version")
        assert told and re.fullmatch(r"\d+\.\d+\.\d+", told)
        assert client.execute("SHOW highwater.version").fetchone() == (told,)
        with pytest.raises(psycopg.errors.CantChangeRuntimeParam):
            client.execute("SET highwater.version = '1'")
    with psycopg.connect(**proxy.parameters(), options="-c highwater.report=on") as client:
        assert client.info.parameter_status("highwater.version") == told


def test_tokens_are_short_and_safe_in_urls_and_cookies(proxy: Proxy, plain: Connect, row: Row) -> None:
    client = plain(proxy)
    row.write(client, 1)
    token = client.token()
    assert 8 < len(token) <= 100
    assert all(character.isascii() and (character.isalnum() or character in "-_.~") for character in token)
