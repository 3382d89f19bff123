"""The same script on PostgreSQL itself and through the proxy gives the same answers, and a stranger notices nothing.

The stranger shares the few server connections of the script's user: between any two statements it looks at all the state
that a connection can have, on the primary and on a standby, and must see what it saw at first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import pq

from harness.lab import Lab
from harness.proxy import Proxy
from harness.traces import LEFT

SETUP = """
SET ROLE app;
CREATE SCHEMA tenant;
CREATE TABLE tenant.item (id int);
CREATE TABLE item (id int, name text);
CREATE SEQUENCE numbers;
CREATE TABLE numbered (id serial, v int);
CREATE TABLE audited (id int);
CREATE FUNCTION set_tenant(id int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('app.tenant', id::text, false);
    EXECUTE 'SET search_path TO tenant, public';
    RETURN 'done';
END $$;
CREATE FUNCTION calls_it() RETURNS text LANGUAGE sql AS 'SELECT public.set_tenant(7)';
CREATE FUNCTION dark(name text, value text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    EXECUTE format('SET %s = %L', name, value);
END $$;
CREATE FUNCTION takes_a_lock() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(99); END';
CREATE FUNCTION makes_a_table() RETURNS void LANGUAGE plpgsql AS 'BEGIN CREATE TEMP TABLE made (i int); END';
CREATE FUNCTION note_actor() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.actor', 'trigger', false); RETURN NEW; END $$;
CREATE TRIGGER noting BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION note_actor();
CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN SET work_mem = '9MB'; COMMIT; SET work_mem = '8MB'; ROLLBACK; END $$;
RESET ROLE;
CREATE ROLE clerk;
GRANT clerk TO app;
GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk;
"""

SHOW = "SELECT current_setting('work_mem'), current_setting('search_path'), current_setting('TimeZone')"
READ = "SELECT id FROM item"

# Each statement leaves, shows or ends some state.
SCRIPTS: dict[str, list[str]] = {
    "set": ["SET work_mem = '7MB'", SHOW, READ, "SHOW work_mem", "RESET work_mem", SHOW],
    "set twice": ["SET work_mem = '7MB'", "SET work_mem = '6MB'", SHOW, "SET work_mem TO DEFAULT", SHOW],
    "set_config": ["SELECT set_config('work_mem', '7MB', false)", SHOW, "RESET ALL", SHOW],
    "set_config in a query": ["SELECT v, set_config('work_mem', v, false) FROM (VALUES ('7MB')) t(v)", SHOW, READ, SHOW],
    "set_config of a name that is computed": ["SELECT set_config('work' || '_mem', '7MB', false)", SHOW, READ, SHOW],
    "a bad value": ["SET work_mem = 'much'", SHOW, "SET no_such_thing = 1", "SET TimeZone = 'Moon'", SHOW],
    "search_path": ["SET search_path = tenant, public", READ, "SELECT name FROM public.item", SHOW, "RESET search_path", READ],
    'search_path "$user"': ['SET search_path = "$user", \'A b\', public', SHOW, READ, SHOW],
    "time zone": ["SET TIME ZONE 'Asia/Tokyo'", SHOW, "SELECT '2020-01-01 00:00+00'::timestamptz::text", "SET TIME ZONE LOCAL", SHOW],
    "time zone interval": ["SET TIME ZONE INTERVAL '-03:30' HOUR TO MINUTE", SHOW, "SELECT '2020-01-01 00:00+00'::timestamptz::text"],
    "date style": ["SET DateStyle = 'German'", "SELECT '2020-01-31'::date::text", READ, "SELECT '2020-01-31'::date::text"],
    "custom": ["SET app.tenant = 'o''hara \\ é'", "SELECT current_setting('app.tenant')", READ, "SHOW app.tenant", "RESET app.tenant", "SHOW app.tenant"],
    "never set": ["SELECT current_setting('app.nothing', true)", "SHOW app.nothing"],
    "local": ["BEGIN", "SET LOCAL work_mem = '7MB'", SHOW, "COMMIT", SHOW, "SET LOCAL work_mem = '7MB'", SHOW],
    "committed": ["BEGIN", "SET work_mem = '7MB'", "COMMIT", SHOW, READ, SHOW],
    "rolled back": ["SET work_mem = '6MB'", "BEGIN", "SET work_mem = '7MB'", SHOW, "ROLLBACK", SHOW],
    "failed": ["SET work_mem = '6MB'", "BEGIN", "SET work_mem = '7MB'", "SELECT 1/0", "COMMIT", SHOW],
    "savepoints": [
        "BEGIN", "SET work_mem = '5MB'", "SAVEPOINT a", "SET work_mem = '6MB'", "SAVEPOINT b", "SET work_mem = '7MB'",
        "ROLLBACK TO a", SHOW, "SET search_path = tenant", "RELEASE a", "COMMIT", SHOW, READ,
    ],
    "local over global": ["BEGIN", "SET work_mem = '5MB'", "SET LOCAL work_mem = '6MB'", SHOW, "COMMIT", SHOW, READ, SHOW],
    "global over local": ["BEGIN", "SET LOCAL work_mem = '6MB'", "SET work_mem = '5MB'", SHOW, "COMMIT", SHOW],
    "reset in a transaction": ["SET work_mem = '7MB'", "BEGIN", "RESET ALL", SHOW, "ROLLBACK", SHOW, "BEGIN", "RESET work_mem", "COMMIT", SHOW],
    "several statements": ["SET work_mem = '7MB'; SET search_path = tenant; SELECT 1", SHOW, READ, "RESET ALL; SELECT 2", SHOW],
    "several statements that fail": ["SET work_mem = '7MB'; SELECT 1/0", SHOW, "BEGIN; SET work_mem = '6MB'; COMMIT; SELECT 1/0", SHOW],
    "role": ["SET ROLE clerk", "SELECT current_user, session_user", READ, "SELECT current_user", "SET work_mem = '7MB'", SHOW, "RESET ROLE", "SELECT current_user, session_user"],
    "role in a transaction": ["BEGIN", "SET LOCAL ROLE clerk", "SELECT current_user", "COMMIT", "SELECT current_user", "BEGIN", "SET ROLE clerk", "COMMIT", "SELECT current_user", "SET ROLE none", "SELECT current_user"],
    "no such role": ["SET ROLE nobody_at_all", "SELECT current_user"],
    "authorization": ["SET SESSION AUTHORIZATION app", "SELECT session_user", "SET SESSION AUTHORIZATION clerk", "RESET SESSION AUTHORIZATION", "SELECT session_user"],
    "characteristics": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW default_transaction_read_only",
        "INSERT INTO item VALUES (1)", READ, "RESET default_transaction_read_only", "SHOW default_transaction_read_only",
    ],
    "serializable": [
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", READ, "SHOW transaction_isolation",
        "BEGIN", "SHOW transaction_isolation", READ, "COMMIT", "SET default_transaction_isolation = 'read committed'", "SHOW transaction_isolation",
    ],
    "transaction's own": ["BEGIN", "SET transaction_isolation = 'repeatable read'", "SHOW transaction_isolation", "COMMIT", "SHOW transaction_isolation"],
    "timeout": ["SET statement_timeout = '50ms'", "SELECT pg_sleep(5)", "RESET statement_timeout", "SELECT 1"],
    "client encoding": ["SET client_encoding = 'LATIN1'", "SHOW client_encoding", READ, "SHOW client_encoding", "SET NAMES 'UTF8'", "SHOW client_encoding"],
    "other characters": ["SET client_encoding = 'LATIN1'", "SELECT 'é'", "SET app.tenant = 'é'", "SHOW app.tenant", READ, "SHOW app.tenant", "SET client_encoding = 'UTF8'", "SHOW app.tenant"],
    "characters that end in a backslash": ["SET client_encoding = 'SJIS'", "SELECT 'ソ'", "SET work_mem = '7MB' /* ソ */", SHOW, READ, SHOW],
    "backslashes": ["SET standard_conforming_strings = off", r"SELECT 'a\'b'", r"SET app.tenant = 'x\'y'", "SHOW app.tenant", READ, "SHOW app.tenant"],
    "application name": ["SET application_name = 'me'", "SHOW application_name", READ, "SHOW application_name", "RESET application_name", "SHOW application_name"],
    "start-up": ["SHOW application_name", "SET application_name = 'x'", "RESET ALL", "SHOW application_name", READ, "SHOW application_name", "DISCARD ALL", "SHOW application_name"],
    "start-up in a transaction": ["BEGIN", "SET application_name = 'x'", "RESET application_name", "SHOW application_name", "COMMIT", "SHOW application_name", READ, "SHOW application_name"],
    "by a function": ["SELECT set_tenant(5)", "SELECT current_setting('app.tenant')", READ, SHOW, "SELECT current_setting('app.tenant')"],
    "by a function's function": ["SELECT calls_it()", "SELECT current_setting('app.tenant')", READ, SHOW],
    "by a function that nobody understands": ["SELECT dark('work_mem', '7MB')", SHOW, READ, SHOW],
    "by a block": ["DO $$ BEGIN PERFORM set_config('app.tenant', '3', false); END $$", "SHOW app.tenant", READ, "SHOW app.tenant"],
    "by a trigger": ["INSERT INTO audited VALUES (1)", "SELECT current_setting('app.actor')", READ, "SELECT current_setting('app.actor')"],
    "by a procedure": ["CALL commits()", SHOW, READ, SHOW],
    "temporary table": ["CREATE TEMP TABLE mine (i int)", "INSERT INTO mine VALUES (1), (2)", "SELECT count(*) FROM mine", READ, "SELECT count(*) FROM mine", "DROP TABLE mine", "SELECT count(*) FROM mine", READ],
    "temporary table on commit": ["BEGIN", "CREATE TEMP TABLE mine (i int) ON COMMIT DROP", "SELECT count(*) FROM mine", "COMMIT", "SELECT count(*) FROM mine"],
    "temporary table rolled back": ["BEGIN", "SAVEPOINT a", "CREATE TEMP TABLE mine (i int)", "ROLLBACK TO a", "COMMIT", "SELECT * FROM mine"],
    "temporary table by select": ["SELECT 1 AS i INTO TEMP mine", "SELECT * FROM mine", "DISCARD TEMP", "SELECT * FROM mine"],
    "temporary table by a function": ["SELECT makes_a_table()", "SELECT * FROM made", READ, "SELECT * FROM made"],
    "temporary view and function": ["CREATE TEMP VIEW mine AS SELECT 7 AS v", "SELECT v FROM mine", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 8'", "SELECT pg_temp.f()", READ, "SELECT pg_temp.f()"],
    "temporary table before others": ["CREATE TEMP TABLE item (id int)", "INSERT INTO item VALUES (42)", READ, "DISCARD ALL", READ],
    "advisory lock": ["SELECT pg_advisory_lock(1)", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", READ, "SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock(1)"],
    "advisory lock tried": ["SELECT pg_try_advisory_lock(2)", "SELECT pg_try_advisory_lock(2)", "SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_unlock(2)"],
    "advisory lock of the transaction": ["BEGIN", "SELECT pg_advisory_xact_lock(3)", "COMMIT", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"],
    "advisory lock by a function": ["SELECT takes_a_lock()", READ, "SELECT pg_advisory_unlock(99)", "SELECT pg_advisory_unlock(99)"],
    "listen": ["LISTEN news", "SELECT pg_listening_channels()", READ, "UNLISTEN news", "SELECT pg_listening_channels()", "LISTEN a", "LISTEN b", "UNLISTEN *", "SELECT pg_listening_channels()"],
    "listen rolled back": ["BEGIN", "LISTEN news", "ROLLBACK", "SELECT pg_listening_channels()"],
    "prepared": ["PREPARE p (int) AS SELECT $1 + 1", "EXECUTE p(1)", READ, "EXECUTE p(2)", "DEALLOCATE p", "EXECUTE p(3)", "PREPARE p AS SELECT 1", "DEALLOCATE ALL", "EXECUTE p"],
    "held cursor": ["DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 5)", "FETCH 2 FROM c", READ, "FETCH 2 FROM c", "CLOSE c", "FETCH 1 FROM c"],
    "held cursors": ["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "DECLARE d CURSOR FOR SELECT 2", "COMMIT", "FETCH c", "FETCH d", "CLOSE ALL", "FETCH c"],
    "cursor": ["BEGIN", "DECLARE c CURSOR FOR SELECT generate_series(1, 5)", "FETCH 2 FROM c", "MOVE 1 FROM c", "FETCH 1 FROM c", "COMMIT", "FETCH c"],
    "seed": ["SELECT setseed(0.5)", "SELECT random()", "SELECT random()", READ, "SELECT random()"],
    "sequences": ["SELECT currval('numbers')", "SELECT setval('numbers', 41)", "SELECT nextval('numbers')", "SELECT currval('numbers'), lastval()", "INSERT INTO numbered (v) VALUES (1)", "SELECT lastval() > 0", "DISCARD SEQUENCES", "SELECT lastval()"],
    "constraints": ["SET CONSTRAINTS ALL DEFERRED", "BEGIN", "SET CONSTRAINTS ALL DEFERRED", "COMMIT"],
    "no transaction": ["COMMIT", "ROLLBACK", "END", "ABORT", "SAVEPOINT a", "ROLLBACK TO a", "COMMIT AND CHAIN"],
    "chained": ["BEGIN ISOLATION LEVEL REPEATABLE READ", "SHOW transaction_isolation", "COMMIT AND CHAIN", "SHOW transaction_isolation", "ROLLBACK AND CHAIN", "SHOW transaction_isolation", "COMMIT"],
    "begun twice": ["BEGIN", "BEGIN", "SELECT 1", "BEGIN", "COMMIT", "COMMIT"],
    "empty transaction": ["BEGIN", "COMMIT", "BEGIN READ ONLY", "ROLLBACK"],
    "read only": ["BEGIN READ ONLY", "INSERT INTO item VALUES (1)", "SELECT 1", "COMMIT", "START TRANSACTION READ ONLY", "SET LOCAL work_mem = '7MB'", SHOW, READ, "COMMIT", SHOW],
    "set back": ["CLOSE ALL; UNLISTEN *; RESET ALL", "SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;", "DISCARD ALL", "RESET ALL", "UNLISTEN *", "CLOSE ALL", "DEALLOCATE ALL", "DISCARD PLANS"],
    "discard": ["SET work_mem = '7MB'", "CREATE TEMP TABLE mine (i int)", "LISTEN x", "SELECT pg_advisory_lock(4)", "PREPARE p AS SELECT 1", "DISCARD ALL", SHOW, "SELECT * FROM mine", "EXECUTE p", "SELECT pg_listening_channels()", "SELECT pg_advisory_unlock(4)"],
    "discard in a transaction": ["BEGIN", "DISCARD ALL", "ROLLBACK", "SELECT 1; DISCARD ALL"],
    "errors": ["SELEC 1", "SELECT * FROM no_such_table", "SELECT no_such_column FROM item", "SELECT no_such_function()", "SELECT 1", "SELECT 'open", "INSERT INTO item VALUES ('x')"],
    "notices": ["DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$", "DROP TABLE IF EXISTS no_such_table"],
    "definitions": ["CREATE TABLE fresh (i int)", "INSERT INTO fresh VALUES (1)", "SELECT * FROM fresh", "ALTER TABLE fresh ADD j int DEFAULT 2", "SELECT * FROM fresh", "DROP TABLE fresh", "SELECT * FROM fresh"],
    "reads before writes": ["BEGIN", READ, SHOW, READ, "INSERT INTO item VALUES (5)", READ, "ROLLBACK", READ],
    "only reads": ["BEGIN", READ, READ, "COMMIT", READ],
    "savepoints before writes": [
        "BEGIN", "SAVEPOINT a", READ, "SET LOCAL work_mem = '7MB'", 'SAVEPOINT "B b"', READ, "INSERT INTO item VALUES (6)", SHOW,
        "ROLLBACK TO a", SHOW, READ, 'ROLLBACK TO "B b"', "ROLLBACK",
    ],
    "settings before reads": ["BEGIN", "SET work_mem = '7MB'", "SELECT set_config('app.tenant', '4', true)", READ, SHOW, "SELECT current_setting('app.tenant')", "COMMIT", SHOW],
    "an error before writes": ["BEGIN", READ, "SELECT 1/0", READ, "INSERT INTO item VALUES (7)", "COMMIT", READ],
    "an error behind a savepoint": ["BEGIN", READ, "SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", READ, "INSERT INTO item VALUES (8)", "ROLLBACK", READ],
    "cursor behind a read": ["BEGIN", READ, "DECLARE c CURSOR FOR SELECT generate_series(1, 3)", "FETCH 2 FROM c", READ, "FETCH ALL FROM c", "COMMIT"],
    "time stands still": ["BEGIN", READ, "SELECT now() = now()", "CREATE TEMP TABLE mine AS SELECT now() AS t", "SELECT t = now() FROM mine", "COMMIT"],
    "repeatable": ["BEGIN ISOLATION LEVEL REPEATABLE READ", READ, "SHOW transaction_isolation", "INSERT INTO item VALUES (9)", "ROLLBACK"],
    "chained behind a read": ["BEGIN", READ, "COMMIT AND CHAIN", "INSERT INTO item VALUES (10)", "ROLLBACK", READ],
    "two phases": ["BEGIN", "INSERT INTO item VALUES (1)", "PREPARE TRANSACTION 'x'", "ROLLBACK PREPARED 'x'"],
    "empty": ["", ";", "-- nothing", "/* nothing */"],
}  # fmt: skip

# Parameters that PostgreSQL reports to its clients.
REPORTED = ["application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby",
            "IntervalStyle", "is_superuser", "session_authorization", "standard_conforming_strings", "TimeZone"]  # fmt: skip


@pytest.fixture(scope="module")
def _schema(_lab: Lab) -> Iterator[None]:
    _lab.primary.rows("DROP SCHEMA IF EXISTS tenant CASCADE")
    _lab.primary.rows(SETUP)
    yield


@pytest.fixture
def narrow(lab: Lab, _schema: None, _narrow: list[Proxy], tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """A proxy whose few server connections everybody shares, and which does all that is allowed on standbys."""
    lab.settle()
    if not _narrow or not _narrow[-1].is_running():
        folder = tmp_path_factory.mktemp("narrow")
        settings = {"pool_size": 2, "wait_budget": "10s", "workers": 1, "transaction_reads": "standby"}
        _narrow[:] = [Proxy(folder, lab.servers, **settings)]
        _narrow[-1].until_it_sees(lab.servers)
    return _narrow[-1]


@pytest.fixture(scope="module")
def _narrow() -> Iterator[list[Proxy]]:
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.stop()


Outcome = list[tuple[Any, ...]]


def observed(connection: psycopg.Connection, sql: str, extended: bool) -> tuple[Any, ...]:
    """All that a program can see of one statement."""
    notices: list[tuple[Any, ...]] = []
    handler = lambda it: notices.append((it.severity, it.sqlstate, it.message_primary))  # noqa: E731
    connection.add_notice_handler(handler)
    results: list[Any] = []
    try:
        cursor = psycopg.RawCursor(connection) if extended else psycopg.ClientCursor(connection)
        cursor.execute(sql, [] if extended else None)
        while True:
            names = [(column.name, column.type_code) for column in cursor.description or []]
            rows = cursor.fetchall() if cursor.description else []
            results.append((cursor.statusmessage, names, rows))
            if not cursor.nextset():
                break
    except psycopg.Error as error:
        diag = error.diag
        results.append(
            (diag.severity, diag.sqlstate, diag.message_primary, diag.message_detail, diag.statement_position)
        )
    finally:
        connection.remove_notice_handler(handler)
    status = pq.TransactionStatus(connection.info.transaction_status).name
    reported = {name: connection.info.parameter_status(name) for name in REPORTED}
    return sql, results, notices, status, reported


@contextmanager
def watched(proxy: Proxy) -> Iterator[Callable[[], None]]:
    """A stranger who looks for traces of others."""
    options = "-c highwater.consistency=eventual"
    with (
        psycopg.connect(**proxy.parameters(), options=options, autocommit=True) as anywhere,
        psycopg.connect(**proxy.parameters("shop@primary"), autocommit=True) as primary,
    ):

        def seen() -> list[Any]:
            return [stranger.execute(LEFT).fetchone() for stranger in (anywhere, primary)]

        before = seen()

        def look() -> None:
            assert seen() == before

        yield look
        look()


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(lab: Lab, narrow: Proxy, name: str, extended: bool) -> None:
    # A message of several statements, or of none, is for the simple protocol alone.
    script = [sql for sql in SCRIPTS[name] if not extended or ";" not in sql.rstrip(";") or "$$" in sql]
    target = {"user": "app", "password": "app", "application_name": "start", "autocommit": True}
    with psycopg.connect(host="127.0.0.1", port=lab.primary.port, dbname="shop", **target) as direct:
        wanted = [observed(direct, sql, extended) for sql in script]
    lab.settle()
    found = []
    with watched(narrow) as look, psycopg.connect(**narrow.parameters() | target) as client:
        for sql in script:
            found.append(observed(client, sql, extended))
            look()
    assert found == wanted


def test_a_connection_that_nobody_needs_is_not_kept(narrow: Proxy) -> None:
    """Pins end with what they were for."""
    ends = {
        "CREATE TEMP TABLE mine (i int)": "DROP TABLE mine",
        "SELECT pg_advisory_lock(5)": "SELECT pg_advisory_unlock(5)",
        "LISTEN news": "UNLISTEN news",
        "PREPARE p AS SELECT 1": "DEALLOCATE p",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1": "CLOSE c",
        "DO 'BEGIN SET work_mem = 100; END'": "DISCARD ALL",
        "BEGIN; CREATE TEMP TABLE mine (i int); COMMIT": "BEGIN; DROP TABLE mine; COMMIT",
    }
    reasons = ["temporary_table", "advisory_lock", "listen", "prepare", "held_cursor", "function", "temporary_table"]

    def pins() -> list[str]:
        return [row["pin"] for row in narrow.console("SHOW CLIENTS") if row["pin"] not in ("", "None")]

    with psycopg.connect(**narrow.parameters(), autocommit=True, cursor_factory=psycopg.ClientCursor) as client:
        for (begin, end), reason in zip(ends.items(), reasons, strict=True):
            client.execute(begin)
            assert pins() == [reason], begin
            client.execute("SELECT id FROM item")
            assert pins() == [reason], begin
            client.execute(end)
            assert pins() == [], end
        for passing in ("SELECT pg_try_advisory_lock_shared(6) AND pg_advisory_unlock_shared(6)",
                        "BEGIN; CREATE TEMP TABLE mine (i int) ON COMMIT DROP; COMMIT",
                        "BEGIN; LISTEN a; ROLLBACK", "SET work_mem = '7MB'", "SET ROLE clerk"):  # fmt: skip
            client.execute(passing)
            assert pins() == [], passing
    assert narrow.stat("pins.temporary_table") >= 2
