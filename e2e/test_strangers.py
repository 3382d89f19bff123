"""Nothing that one client does, and least of all what fails, reaches another one; nothing of one's own is forgotten.

Two clients share one server connection here: whatever is left in it, the other one meets.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest

from conftest import StartProxy
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row

EPOCH = "SELECT extract(epoch FROM '2020-01-01 00:00'::timestamptz)::int"
HINT_EVENTUAL = "/* highwater.consistency='eventual' */"


@pytest.fixture
def narrow(start_proxy: StartProxy) -> Proxy:
    """One server connection for everybody."""
    return start_proxy(pool_size=1)


@pytest.fixture
def ann(narrow: Proxy) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**narrow.parameters(), autocommit=True) as client:
        yield client


@pytest.fixture
def bob(narrow: Proxy) -> Iterator[psycopg.Connection]:
    with psycopg.connect(**narrow.parameters(), autocommit=True) as client:
        yield client


def value(client: psycopg.Connection, sql: str, prepare: bool | None = None) -> object:
    """The single value that a statement yields."""
    row = client.execute(sql, prepare=prepare).fetchone()
    assert row
    return row[0]


def on_primary(client: psycopg.Connection, sql: str, prepare: bool | None = None) -> object:
    """The same in a transaction, on the server connection that all writers share."""
    with client.transaction():
        return value(client, sql, prepare)


@pytest.mark.parametrize("how", ["leaves", "fails first"])
def test_who_leaves_within_a_transaction_leaves_nothing_behind(
    lab: Lab, narrow: Proxy, bob: psycopg.Connection, how: str
) -> None:
    with psycopg.connect(**narrow.parameters()) as ann:
        ann.execute("SELECT pg_advisory_lock(4242)")
        ann.execute("PREPARE leaked AS SELECT 1")
        if how == "fails first":
            with pytest.raises(psycopg.errors.DivisionByZero):
                ann.execute("SELECT 1/0")
        ann.pgconn.finish()
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        on_primary(bob, "EXECUTE leaked")
    assert lab.primary.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4242") == 0


INDIRECTLY = "SELECT set_config(n, '{}', false) FROM (VALUES('{}')) v(n)"


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN; " + INDIRECTLY.format("7MB", "work_mem") + "; COMMIT; SELECT 1/0",
        "BEGIN; " + INDIRECTLY.format("evil", "search_path") + "; COMMIT; SELECT 1/0",
        "DO $$ BEGIN PERFORM set_config('work' || '_mem', '7MB', false); COMMIT; RAISE EXCEPTION 'x'; END $$",
    ],
)
def test_what_was_set_before_a_failure_stays_with_its_client(
    ann: psycopg.Connection, bob: psycopg.Connection, statement: str
) -> None:
    before = [on_primary(bob, f"SHOW {name}") for name in ("work_mem", "search_path")]
    with pytest.raises(psycopg.Error):
        ann.execute(statement)
    ann.close()
    assert [on_primary(bob, f"SHOW {name}") for name in ("work_mem", "search_path")] == before


def test_the_seed_of_a_statement_that_failed_stays_with_its_client(
    ann: psycopg.Connection, bob: psycopg.Connection, row: Row
) -> None:
    ann.execute("SELECT setseed(0.5)")
    seeded = on_primary(ann, "SELECT random()")
    ann.close()
    with psycopg.connect(**_like(bob), autocommit=True) as other, pytest.raises(psycopg.errors.DivisionByZero):
        other.execute("SELECT setseed(0.5), 1 / v FROM counter WHERE id = %s FOR UPDATE", (row.id,))
    assert on_primary(bob, "SELECT random()") != seeded


def _like(client: psycopg.Connection) -> dict[str, object]:
    info = client.info
    return {"host": info.host, "port": info.port, "dbname": info.dbname, "user": info.user, "password": "app"}


# A literal means what the settings say when its statement is parsed, whoever parses it for all.


def test_literals_of_a_client_that_has_changed_its_time_zone(ann: psycopg.Connection, bob: psycopg.Connection) -> None:
    for client in (ann, bob):
        client.execute("SET TimeZone = 'UTC'")
    assert value(ann, EPOCH, prepare=True) == 1577836800
    ann.execute("SET TimeZone = 'Asia/Tokyo'")
    assert on_primary(ann, EPOCH, prepare=True) == 1577804400
    assert on_primary(bob, EPOCH, prepare=True) == 1577836800


def test_literals_of_a_transaction_in_another_time_zone(ann: psycopg.Connection, bob: psycopg.Connection) -> None:
    for client in (ann, bob):
        client.execute("SET TimeZone = 'UTC'")
    with ann.transaction():
        ann.execute("SET LOCAL TimeZone = 'Asia/Tokyo'")
        assert value(ann, EPOCH, prepare=True) == 1577804400
    assert on_primary(bob, EPOCH, prepare=True) == 1577836800
    assert on_primary(ann, EPOCH, prepare=True) == 1577836800


def test_literals_that_are_dates(ann: psycopg.Connection, bob: psycopg.Connection) -> None:
    date = "SELECT extract(month FROM '02/01/2020'::date)::int"
    for client in (ann, bob):
        client.execute("SET DateStyle = 'ISO, MDY'")
    assert value(ann, date, prepare=True) == 2
    ann.execute("SET DateStyle = 'ISO, DMY'")
    assert on_primary(ann, date, prepare=True) == 1
    assert on_primary(bob, date, prepare=True) == 2


def test_a_pipeline_that_has_failed_breaks_nobodys_statements(
    ann: psycopg.Connection, bob: psycopg.Connection, row: Row
) -> None:
    ann.prepare_threshold = bob.prepare_threshold = 0
    assert value(ann, "SELECT 661") == 661
    with pytest.raises(psycopg.errors.DivisionByZero), bob.pipeline():
        bob.execute("UPDATE counter SET v = v WHERE id = %s AND 1/0 > 0", (row.id,))
        # By now the server has said so, and ignores the rest.
        time.sleep(0.2)
        bob.execute("SELECT 661", prepare=True)
    for number in range(662, 665):
        assert on_primary(bob, f"SELECT {number}", prepare=True) == number
        assert on_primary(ann, f"SELECT {number}", prepare=True) == number
    assert on_primary(ann, "SELECT 661", prepare=True) == 661
    assert on_primary(bob, "SELECT 661", prepare=True) == 661


# `lastval()` is one's own.


def test_lastval_is_nobody_elses_after_a_failure(ann: psycopg.Connection, bob: psycopg.Connection) -> None:
    value(ann, "SELECT nextval('ticket')")
    bob.execute("BEGIN")
    for sql in ("SELECT 1/0", "SELECT lastval()"):
        with pytest.raises(psycopg.Error):
            bob.execute(sql)
    bob.execute("ROLLBACK")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        bob.execute("SELECT lastval()")


def test_lastval_outlasts_a_rest(start_proxy: StartProxy) -> None:
    two = start_proxy(pool_size=2).parameters()
    with psycopg.connect(**two, autocommit=True) as ann, psycopg.connect(**two, autocommit=True) as bob:
        value(ann, "SELECT nextval('ticket')")
        value(ann, "SELECT lastval()")
        # A client that says nothing for some seconds gives up its task.
        time.sleep(7)
        own = value(ann, "SELECT nextval('ticket')")
        value(bob, "SELECT nextval('ticket')")
        assert value(ann, "SELECT lastval()") == own


# A comment speaks for its statement, not for those that share its pipeline.


@pytest.mark.parametrize("hinted_first", [True, False])
@pytest.mark.parametrize("own", ["", "/* highwater.consistency='strong' */ "])
def test_a_pipeline_is_as_strict_as_its_strictest_statement(
    lab: Lab, ann: psycopg.Connection, row: Row, hinted_first: bool, own: str
) -> None:
    read = f"{own}SELECT v FROM counter WHERE id = {row.id}"
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        loose = f"{HINT_EVENTUAL} SELECT v FROM counter WHERE id = {row.id}"
        assert value(ann, loose) == 0
        with ann.pipeline():
            cursors = [ann.execute(sql) for sql in ((loose, read) if hinted_first else (read, loose))]
            found = [cursor.fetchone() for cursor in cursors]
    assert found[1 if hinted_first else 0] == (1,)


@pytest.mark.parametrize("setting", ["session='ann'", "token='x'", "report='on'", "transaction_reads='standby'"])
def test_what_no_comment_can_say_is_refused(ann: psycopg.Connection, setting: str) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="in a comment"):
        ann.execute(f"/* highwater.{setting} */ SELECT 1")


# COMMIT AND CHAIN ends a transaction, whatever begins behind it.


def test_a_chain_commits_what_was_set(lab: Lab, ann: psycopg.Connection, row: Row) -> None:
    ann.execute("SET highwater.consistency = 'session'")
    ann.execute("SET highwater.session = 'alice'")
    with paused(*lab.standbys):
        ann.execute("BEGIN")
        ann.execute("SET highwater.session = 'bob'")
        ann.execute("SET LOCAL highwater.max_lag = '7s'")
        ann.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
        ann.execute("COMMIT AND CHAIN")
        assert value(ann, "SHOW highwater.max_lag") != "7s"
        ann.execute("ROLLBACK")
        assert value(ann, "SHOW highwater.session") == "bob"
        assert value(ann, f"SELECT v FROM counter WHERE id = {row.id}") == 1


def test_going_back_to_a_savepoint_ends_none(ann: psycopg.Connection) -> None:
    ann.execute("BEGIN")
    ann.execute("SAVEPOINT a")
    ann.execute("SET LOCAL highwater.max_lag = '7s'")
    ann.execute("SAVEPOINT b")
    ann.execute("ROLLBACK TO SAVEPOINT b")
    assert value(ann, "SHOW highwater.max_lag") == "7s"
    ann.execute("COMMIT")
    assert value(ann, "SHOW highwater.max_lag") != "7s"


def test_a_function_that_lies_is_found_out_behind_other_results(ann: psycopg.Connection, row: Row) -> None:
    """Too late for the first time, for something has been shown; not for the next."""
    both = f"SELECT {row.id}; SELECT sly_bump({row.id})"
    with suppress(psycopg.errors.ReadOnlySqlTransaction):
        ann.execute(both)
    ann.execute(both)


def test_who_sends_faster_than_the_server_works_is_made_to_wait(lab: Lab, ann: psycopg.Connection) -> None:
    with lab.primary.connect() as blocker, ann.cursor() as cursor:
        blocker.execute("BEGIN; LOCK TABLE bulk IN EXCLUSIVE MODE")
        unblocking = threading.Timer(4, lambda: blocker.execute("COMMIT"))
        unblocking.start()
        # No row of another test has such a number.
        cursor.executemany("INSERT INTO bulk VALUES (%s, 'fast')", ((-number,) for number in range(1, 100_001)))
        unblocking.join()
    assert value(ann, "SELECT count(*) FROM bulk WHERE text = 'fast'") == 100_000
