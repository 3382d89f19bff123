"""What servers say beside rows comes through as it is, byte by byte and in its order: notices, notifications, parameters,
errors with all their fields, and the answers to function calls.

Scripts are lists of steps; a text is a statement that somebody else runs meanwhile, directly on the primary.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest

from harness.lab import Lab
from harness.messages import COPY_DONE, FLUSH, SYNC, bind, copy_data, execute, function_call, parse, run
from harness.playing import Step, ask, say
from harness.proxy import Proxy
from harness.wire import Wire, message, query

SETUP = """
DROP SCHEMA IF EXISTS aside CASCADE;
CREATE SCHEMA aside;
CREATE TABLE aside.kind (id int PRIMARY KEY);
CREATE TABLE aside.item (id int PRIMARY KEY, kind int REFERENCES aside.kind, price int CONSTRAINT not_free CHECK (price > 0),
    name varchar(3) NOT NULL, UNIQUE (name, price));
CREATE DOMAIN aside.even AS int CONSTRAINT is_even CHECK (VALUE % 2 = 0);
CREATE TABLE aside.noisy (id int, text text);
CREATE FUNCTION aside.tell() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE NOTICE 'row % in %', NEW.id, TG_TABLE_NAME; RETURN NEW; END $$;
CREATE TRIGGER telling BEFORE INSERT ON aside.noisy FOR EACH ROW EXECUTE FUNCTION aside.tell();
CREATE FUNCTION aside.inner_error() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1 / 0; END $$;
CREATE FUNCTION aside.outer_error() RETURNS int LANGUAGE sql AS 'SELECT aside.inner_error()';
CREATE FUNCTION aside.bad_query() RETURNS int LANGUAGE plpgsql AS
    $$ DECLARE n int; BEGIN EXECUTE 'SELECT no_column FROM aside.kind' INTO n; RETURN n; END $$;
CREATE FUNCTION aside.all_fields() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'told' USING DETAIL = 'a detail', HINT = 'a hint', ERRCODE = 'P1234', COLUMN = 'c', CONSTRAINT = 'k',
        DATATYPE = 'd', TABLE = 't', SCHEMA = 's';
END $$;
CREATE FUNCTION aside.warn_fields() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    RAISE WARNING 'told' USING DETAIL = 'a detail', HINT = 'a hint', ERRCODE = '01234', COLUMN = 'c', TABLE = 't';
END $$;
CREATE FUNCTION aside.sets_style() RETURNS void LANGUAGE plpgsql SET "IntervalStyle" = 'iso_8601' AS
    $$ BEGIN SET LOCAL "DateStyle" = 'German'; END $$;
GRANT ALL ON SCHEMA aside TO app; GRANT ALL ON ALL TABLES IN SCHEMA aside TO app;
"""

Script = Sequence[Step | str]

# Functions by their numbers: pg_proc.dat.
ABS, LENGTH, VERSION, SET_CONFIG, SLEEP = 1397, 1318, 89, 2078, 2626


def int4(value: int) -> bytes:
    """An integer in its binary format."""
    return struct.pack(">i", value)


CALLS: dict[str, Script] = {
    "text": [Step(function_call(ABS, b"-7")), Step(function_call(ABS, b"9")), Step(function_call(VERSION))],
    "binary": [Step(function_call(ABS, int4(-7), binary=True)), Step(function_call(LENGTH, b"abc", binary=True))],
    "NULL": [Step(function_call(ABS, None)), Step(function_call(ABS, None, binary=True))],
    "nothing comes back": [Step(function_call(SLEEP, b"0.01")), Step(function_call(SLEEP, struct.pack(">d", 0.01), binary=True))],
    "errors": [
        Step(function_call(ABS, b"x")),
        Step(function_call(ABS, b"1", b"2")),
        Step(function_call(ABS)),
        Step(function_call(1)),
        Step(function_call(ABS, b"\x01", binary=True)),
        *say("SELECT 1"),
    ],
    "a transaction": [
        *say("BEGIN"), Step(function_call(ABS, b"-1")), *say("SELECT 1"), Step(function_call(ABS, b"-2")), *say("COMMIT"),
    ],
    "a failed transaction": [
        *say("BEGIN", "SELECT 1"), Step(function_call(ABS, b"x")), Step(function_call(ABS, b"1")), *say("COMMIT"),
        Step(function_call(ABS, b"-3")),
    ],
    "a failed transaction that no server has seen": [
        *say("BEGIN"), Step(function_call(ABS, b"x")), Step(function_call(ABS, b"1")), *say("ROLLBACK"),
    ],
    "a read-only transaction": [*say("BEGIN READ ONLY", "SELECT 1"), Step(function_call(ABS, b"-4")), *say("COMMIT")],
    "a pipeline": [
        Step(run("SELECT 1") + function_call(ABS, b"-5") + run("SELECT 2") + SYNC, times=2),
        Step(function_call(ABS, b"-6") * 3 + query("SELECT 3"), times=4),
        Step(run("SELECT 1 / 0") + function_call(ABS, b"-7") + SYNC),
        *say("SELECT 4"),
    ],
    "settings": [
        Step(function_call(SET_CONFIG, b"DateStyle", b"German", b"false")), *say("SHOW DateStyle", "RESET DateStyle"),
    ],
    "notices": [Step(function_call(SET_CONFIG, b"application_name", b"n" * 70, b"false"))],
}  # fmt: skip

TOLD: dict[str, Script] = {
    "in queries": say(
        "SELECT say('one'), say('two')", "DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b'; RAISE INFO 'c'; END $$",
        "SELECT say('before'); SELECT 1 / 0; SELECT say('never')", "SELECT aside.warn_fields()",
        "DO $$ BEGIN RAISE NOTICE 'told'; RAISE EXCEPTION 'failed'; END $$",
    ),
    "in a pipeline": [
        ask(run("SELECT say('one')"), run("SELECT 1"), run("DO 'BEGIN RAISE WARNING ''two''; END'"), run("SELECT say('3')")),
        Step(run("SELECT say('four')") + FLUSH, until=b"C"),
        Step(run("SELECT say('five')") + FLUSH, until=b"C"),
        Step(SYNC),
    ],
    "among rows": say("SELECT i, say('row ' || i) FROM generate_series(1, 5) i"),
    "in a transaction": say("BEGIN", "SELECT say('one')", "BEGIN", "SAVEPOINT a", "COMMIT"),
    "while COPY reads": [
        Step(query("COPY aside.noisy FROM STDIN"), until=b"G"),
        Step(copy_data("1\tone\n2\ttwo\n") + copy_data("3\tthree\n") + COPY_DONE),
    ],
    "while COPY reads by extended messages": [
        Step(parse("COPY aside.noisy FROM STDIN") + bind() + execute() + SYNC, until=b"G"),
        Step(copy_data("1\tone\n") + copy_data("bad\n") + COPY_DONE + SYNC),
    ],
    "while COPY writes": say("COPY (SELECT say('row ' || i) FROM generate_series(1, 3) i) TO STDOUT"),
    "of what is cut": say(f"SELECT 1 AS {'n' * 70}", f"SET application_name = '{'n' * 70}'"),
    "of what is there already": say("CREATE TABLE IF NOT EXISTS counter (i int)", "DROP TABLE IF EXISTS nothing, nowhere"),
    "of less": say("SET client_min_messages = 'warning'", "SELECT say('not told')", "DO 'BEGIN RAISE WARNING ''told''; END'"),
}  # fmt: skip

# Nobody has this row.
WRITE = "UPDATE counter SET v = v WHERE id = -7"

NEWS: dict[str, Script] = {
    "one's own": say("LISTEN a", "NOTIFY a", "NOTIFY a, 'more'", "SELECT pg_notify('a', 'by a function')", "NOTIFY b"),
    "one's own, in a transaction": say("LISTEN a", "BEGIN", "NOTIFY a, '1'", "NOTIFY a, '1'", "NOTIFY a, '2'", "SELECT 1", "COMMIT"),
    "one's own, rolled back": say("LISTEN a", "BEGIN", "NOTIFY a", "ROLLBACK", "SELECT 1", "BEGIN", "LISTEN b", "COMMIT", "NOTIFY b"),
    "one's own, in one message": say("LISTEN a; NOTIFY a", "SELECT 1; NOTIFY a, 'x'; SELECT 2"),
    "one's own, in a pipeline": [
        ask(run("LISTEN a"), run("NOTIFY a")),
        ask(run("SELECT 1"), run("NOTIFY a, 'x'"), run("SELECT 2")),
        Step(run("NOTIFY a, '1'") + SYNC + run("NOTIFY a, '2'") + SYNC, times=2),
    ],
    "while idle": [*say("LISTEN a"), "NOTIFY a, 'idle'", Step(b"", until=b"A"), *say("SELECT 1"), "NOTIFY a", Step(b"", until=b"A")],
    "while a transaction is open": [
        *say("LISTEN a", "BEGIN", "SELECT 1"), "NOTIFY a, 'later'", *say("SELECT 2", "COMMIT"), *say("SELECT 3"),
    ],
    "while a transaction that has only begun is open": [*say("LISTEN a", "BEGIN"), "NOTIFY a", *say("COMMIT", "SELECT 1")],
    "before a pipeline goes on": [
        *say("LISTEN a"), Step(run(WRITE) + FLUSH, until=b"C"), "NOTIFY a, 'between'", Step(run("SELECT 2") + SYNC), *say("SELECT 3"),
    ],
    "while COPY reads": [
        *say("LISTEN a"), Step(query("COPY bulk FROM STDIN"), until=b"G"), "NOTIFY a", Step(message(b"f", b"no\0")), *say("SELECT 1"),
    ],
    "no more": [*say("LISTEN a", "UNLISTEN a"), "NOTIFY a", *say("SELECT 1", "NOTIFY a")],
}  # fmt: skip

STYLE = "SELECT timestamp '2001-02-03 04:05:06', interval '1 day 2 hours'"

REPORTED: dict[str, Script] = {
    "SET": say(
        "SET DateStyle = 'German'", STYLE, "SET IntervalStyle = 'iso_8601'", STYLE, "SET TimeZone = 'Asia/Tokyo'",
        "SET application_name = 'me'", "SET client_encoding = 'LATIN1'", "SET standard_conforming_strings = off",
        "SET default_transaction_read_only = on", "SELECT 1", "RESET ALL", STYLE,
    ),
    "what does not change": say("SET DateStyle = 'ISO, MDY'", "SET TimeZone = 'UTC'", "SET TimeZone = 'utc'", "SET application_name = ''"),
    "several at once": say(
        "SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = 'iso_8601'", "SET TimeZone = 'UTC'; RESET DateStyle",
        "SET DateStyle = 'SQL'; SET DateStyle = 'ISO'", "SET DateStyle = 'SQL'; SELECT 1 / 0", "SHOW DateStyle",
    ),
    "SET LOCAL": say("BEGIN", "SET LOCAL TimeZone = 'Asia/Tokyo'", "SELECT 1", "COMMIT", "BEGIN", "SET LOCAL DateStyle = 'SQL'", "ROLLBACK"),
    "SET in a transaction": say("BEGIN", "SET TimeZone = 'Asia/Tokyo'", "COMMIT", "SELECT 1", "BEGIN", "SET TimeZone = 'UTC'", "ROLLBACK"),
    "savepoints": say(
        "BEGIN", "SAVEPOINT a", "SET TimeZone = 'Asia/Tokyo'", "SAVEPOINT b", "SET TimeZone = 'UTC'", "ROLLBACK TO b", "ROLLBACK TO a", "COMMIT",
    ),
    "a failed transaction": say("BEGIN", "SET TimeZone = 'Asia/Tokyo'", "SELECT 1 / 0", "COMMIT", "SHOW TimeZone"),
    "SET and SET LOCAL": say("BEGIN", "SET TimeZone = 'Asia/Tokyo'", "SET LOCAL TimeZone = 'America/Lima'", "COMMIT", "SHOW TimeZone"),
    "set_config": say(
        "SELECT set_config('TimeZone', 'Asia/Tokyo', false)", "SELECT set_config('TimeZone', 'UTC', true)", "BEGIN",
        "SELECT set_config('DateStyle', 'SQL', true)", "COMMIT",
    ),
    "functions": say("SELECT aside.sets_style()", STYLE, "DO $$ BEGIN SET \"TimeZone\" = 'Asia/Tokyo'; END $$", STYLE),
    "by extended messages": [
        ask(run("SET TimeZone = 'Asia/Tokyo'")), ask(run("SELECT set_config($1, $2, false)", "DateStyle", "SQL"), run(STYLE)),
        ask(run("SET IntervalStyle = 'iso_8601'"), run("SELECT 1 / 0")), ask(run("RESET ALL")),
    ],
    "by extended messages, in a transaction": [
        ask(run("BEGIN"), run("SET TimeZone = 'Asia/Tokyo'")), ask(run("ROLLBACK")), ask(run(STYLE)),
    ],
    "DISCARD ALL": say("SET TimeZone = 'Asia/Tokyo'", "SET application_name = 'me'", "DISCARD ALL", "SELECT 1"),
    "SET NAMES and TIME ZONE": say("SET NAMES 'LATIN1'", "SET TIME ZONE 3", "SET TIME ZONE LOCAL", "SET NAMES DEFAULT"),
    "names": say("SET application_name = 'é\tx'", "SHOW application_name", "SELECT 1", "SET application_name TO DEFAULT"),
    "access": say("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SELECT 1", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
    "roles": say("SET ROLE app", "SELECT current_user", "RESET ROLE", "SET SESSION AUTHORIZATION trusted"),
    "bad values": say("SET TimeZone = 'nowhere'", "SET DateStyle = 'nonsense'", "SET client_encoding = 'none'", "SET is_superuser = on"),
}  # fmt: skip

ERRORS: dict[str, Script] = {
    "constraints": say(
        "INSERT INTO aside.kind VALUES (1)",
        "INSERT INTO aside.kind VALUES (1)",
        "INSERT INTO aside.item VALUES (1, 2, 3, 'abc')",
        "INSERT INTO aside.item VALUES (1, 1, 0, 'abc')",
        "INSERT INTO aside.item VALUES (1, 1, 3, NULL)",
        "INSERT INTO aside.item VALUES (1, 1, 3, 'abcd')",
        "SELECT 3::aside.even",
        "DELETE FROM aside.kind",
    ),
    "positions": say(
        "SELECT 1 FROM nowhere", "SELECT é FROM aside.kind", "SELEC 1", "SELECT 1 +", "SELECT 'open", "SELECT nothing(1)",
        "SELECT 1; SELECT nothing", "SELECT aside.bad_query()",
    ),
    "where": say(
        "SELECT aside.outer_error()", "SELECT aside.all_fields()", "DO $$ BEGIN PERFORM aside.outer_error(); END $$",
        "SELECT i, aside.inner_error() FROM generate_series(1, 2) i", "SELECT 'x'::int", "SELECT '{1,'::int[]", "SELECT '{'::json",
    ),
    "by extended messages": [
        ask(run("SELECT 1 FROM nowhere")), ask(run("SELECT $1::int", "x")), ask(run("SELECT aside.outer_error()")),
        ask(run("INSERT INTO aside.item VALUES (1, 2, 3, $1)", "abcd")), ask(bind(name="none")),
        ask(parse("SELECT $1::int", "one"), bind(name="one")), ask(parse("SELECT 1; SELECT 2")),
    ],
    "COPY": [
        Step(query("COPY aside.item FROM STDIN"), until=b"G"), Step(copy_data("1\t1\tx\tabc\n") + COPY_DONE),
        Step(query("COPY aside.item FROM STDIN"), until=b"G"), Step(copy_data("1\t1\n") + COPY_DONE), *say("COPY nowhere TO STDOUT"),
    ],
    "rights and states": say(
        "DROP TABLE pg_class", "CREATE TABLE pg_catalog.mine ()", "SET SESSION AUTHORIZATION postgres", "BEGIN", "SELECT 1 / 0", "SELECT 1",
        "COMMIT", "BEGIN READ ONLY", "DELETE FROM aside.kind", "ROLLBACK",
    ),
}  # fmt: skip

SUPERUSERS: dict[str, Script] = {
    "session authorization": say(
        "SET SESSION AUTHORIZATION app", "SELECT session_user", "RESET SESSION AUTHORIZATION", "BEGIN", "SET SESSION AUTHORIZATION app",
        "ROLLBACK", "SET LOCAL SESSION AUTHORIZATION app", "SET ROLE app", "SHOW is_superuser", "RESET ROLE",
    ),
}  # fmt: skip

SCRIPTS = {
    f"{kind}: {name}": script
    for kind, scripts in [
        ("calls", CALLS),
        ("notices", TOLD),
        ("news", NEWS),
        ("parameters", REPORTED),
        ("errors", ERRORS),
    ]
    for name, script in scripts.items()
}


def heard(lab: Lab, port: int, script: Script, user: str = "trusted") -> list[tuple[str, bytes]]:
    """All that comes back, as it is; the sender of a notification is oneself or somebody else."""
    told: list[tuple[str, bytes]] = []
    with ExitStack() as stack:
        wire = stack.enter_context(Wire(port))
        wire.socket.settimeout(5)
        own = wire.log_in(user)[:4]
        other = stack.enter_context(lab.primary.connect())
        for step in script:
            if isinstance(step, str):
                other.execute(step)
                continue
            wire.send(step.send)
            left = step.times
            while left:
                try:
                    tag, body = wire.receive()
                except TimeoutError:
                    return [*told, ("no answer", b"")]
                if tag == b"A":
                    body = (b"own " if body[:4] == own else b"other ") + body[4:]
                told.append((tag.decode(), body))
                left -= tag == step.until
                if not tag:
                    return told
    return told


@pytest.fixture(scope="module")
def _started(_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Proxy]]:
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def tight(lab: Lab, _started: list[Proxy], tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """A proxy with one connection for each server, which does on standbys whatever is allowed there."""
    lab.primary.rows(SETUP)
    lab.settle()
    if not _started or not _started[-1].is_running():
        settings = {"auth": "trust", "pool_size": 1, "wait_budget": "10s", "transaction_reads": "standby"}
        _started[:] = [Proxy(tmp_path_factory.mktemp("tight"), lab.servers, **settings)]
        _started[-1].until_it_sees(lab.servers)
    return _started[-1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_told_is_what_the_server_told(lab: Lab, tight: Proxy, name: str) -> None:
    wanted = heard(lab, lab.primary.port, SCRIPTS[name])
    lab.primary.rows(SETUP)
    lab.settle()
    assert heard(lab, tight.port, SCRIPTS[name]) == wanted
    assert "no answer" not in [tag for tag, _ in wanted]


@pytest.mark.parametrize("name", SUPERUSERS)
def test_superusers_are_told_what_the_server_told(lab: Lab, tight: Proxy, name: str) -> None:
    wanted = heard(lab, lab.primary.port, SUPERUSERS[name], "postgres")
    assert heard(lab, tight.port, SUPERUSERS[name], "postgres") == wanted
