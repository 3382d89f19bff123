"""What drivers do by the protocol is answered as PostgreSQL answers it: the same messages, directly and through us.

Each habit is told as what a client sends and what it waits for. Ids of processes differ, nothing else does.
"""

import struct
from collections.abc import Sequence

import pytest

from conftest import StartProxy
from harness.lab import Lab
from harness.messages import COPY_DONE, FLUSH, SYNC, bind, close, copy_data, describe, execute, parse, run, text
from harness.playing import Step, ask, played, say
from harness.proxy import Proxy
from harness.wire import message, query

READ = "SELECT id, v FROM counter WHERE id > 1000000 ORDER BY id"
WRITE = "UPDATE counter SET v = v WHERE id = 1000001"

HABITS: dict[str, Sequence[Step]] = {
    "pgjdbc: a transaction begins with its first statement": [
        ask(parse("BEGIN"), bind(), execute(), run(READ)),
        ask(run(WRITE)),
        ask(run("COMMIT")),
    ],
    "pgjdbc: a read-only transaction": [
        ask(parse("BEGIN READ ONLY"), bind(), execute(), run(READ)),
        ask(run("COMMIT")),
    ],
    "pgjdbc: a named statement, used again": [
        ask(parse(READ, "S_1"), bind(name="S_1"), describe(), execute()),
        ask(bind(name="S_1"), describe(), execute()),
        ask(close("S", "S_1")),
        ask(bind(name="S_1"), execute()),
    ],
    "pgjdbc: rows by pieces": [
        ask(
            run("BEGIN"),
            parse("SELECT generate_series(1, 5)", "S_2"),
            bind(name="S_2", portal="C_1"),
            describe(name="C_1"),
            execute(2, "C_1"),
        ),
        ask(execute(2, "C_1")),
        ask(execute(2, "C_1")),
        ask(close("P", "C_1"), run("COMMIT")),
    ],
    "libpq: a transaction as one pipeline": [ask(run("BEGIN"), run(WRITE), run(READ), run("COMMIT"))],
    "libpq: a transaction as one pipeline that only reads": [ask(run("BEGIN"), run(READ), run("COMMIT"))],
    "libpq: a pipeline of several units": [
        Step(run("BEGIN") + SYNC + run(READ) + SYNC + run(WRITE) + SYNC + run("COMMIT") + SYNC, times=4)
    ],
    "libpq: a pipeline that fails in the middle": [
        ask(run(READ), run("SELECT 1 / 0"), run(WRITE)),
        ask(run(READ)),
    ],
    "libpq: a pipeline that fails in a transaction": [
        ask(run("BEGIN"), run("SELECT 1 / 0"), run("COMMIT")),
        ask(run(READ)),
        ask(run("ROLLBACK")),
    ],
    "libpq: an error is told without Sync or Flush": [
        *say("BEGIN"),
        Step(run(WRITE) + run("SELECT 1 / 0") + run(READ), until=b"E"),
        Step(SYNC),
        *say("ROLLBACK"),
    ],
    "libpq: a statement of a pipeline is deallocated": [
        ask(parse("SELECT 1", "p"), run("DEALLOCATE p"), parse("SELECT 2", "p"), bind(name="p"), execute()),
    ],
    "asyncpg: prepares by Flush, then runs": [
        Step(parse(READ, "a") + describe("S", "a") + FLUSH, until=b"T"),
        ask(bind(name="a"), execute()),
    ],
    "tokio-postgres: COPY in": [
        ask(parse("COPY bulk FROM STDIN", "c"), describe("S", "c")),
        Step(bind(name="c") + execute() + SYNC, until=b"G"),
        Step(copy_data("-1\tone\n") + copy_data("-2\ttwo\n") + COPY_DONE + SYNC),
        ask(run("SELECT 1")),
    ],
    "tokio-postgres: COPY in that the client gives up": [
        Step(parse("COPY bulk FROM STDIN") + bind() + execute() + SYNC, until=b"G"),
        Step(copy_data("-1\tone\n") + message(b"f", text("enough")) + SYNC),
        ask(run("SELECT 1")),
    ],
    "tokio-postgres: COPY in of a bad row": [
        Step(parse("COPY bulk FROM STDIN") + bind() + execute() + SYNC, until=b"G"),
        Step(copy_data("one\n"), until=b"G", times=0),
        Step(COPY_DONE + SYNC),
        ask(run("SELECT 1")),
    ],
    "tokio-postgres: COPY out": [ask(run("COPY (SELECT generate_series(1, 3)) TO STDOUT"))],
    "psql: COPY in and out": [
        Step(query("COPY bulk FROM STDIN"), until=b"G"),
        Step(copy_data("-3\tthree\n") + COPY_DONE),
        *say("COPY (SELECT 1) TO STDOUT"),
    ],
    "psql: several statements in one message": say(
        "SELECT 1; SELECT 2",
        "SELECT 1; SELECT 1 / 0; SELECT 2",
        "BEGIN; UPDATE counter SET v = v WHERE id = 1000001; COMMIT; SELECT 3",
        "BEGIN; SELECT 1 / 0; COMMIT",
        "SELECT 4",
        "ROLLBACK",
        "",
        ";",
        "-- nothing",
    ),
    "psql: transactions and savepoints": say(
        "BEGIN",
        "BEGIN",
        "SAVEPOINT a",
        "SELECT 1 / 0",
        READ,
        "ROLLBACK TO a",
        READ,
        "RELEASE a",
        "COMMIT AND CHAIN",
        WRITE,
        "ROLLBACK",
        "ROLLBACK",
        "COMMIT",
        "SAVEPOINT b",
        "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW transaction_isolation",
        "END",
        "ABORT",
    ),
    "psql: isolation and access of a transaction": say(
        "BEGIN",
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
        WRITE,
        "ROLLBACK",
        "SET TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        WRITE,
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        WRITE,
    ),
    "psql: settings": say(
        "SET work_mem = '5MB'",
        "SHOW work_mem",
        "BEGIN",
        "SET LOCAL work_mem = '6MB'",
        "SET statement_timeout = '1h'",
        "SHOW work_mem",
        "ROLLBACK",
        "SHOW work_mem",
        "SHOW statement_timeout",
        "SET nonsense = 1",
        "SET my.own = 'x'",
        "SELECT current_setting('my.own')",
        "RESET ALL",
        "SHOW work_mem",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET datestyle = 'German'",
        "DISCARD ALL",
        "SHOW datestyle",
    ),
    "psql: cursors": say(
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT generate_series(1, 5)",
        "FETCH 2 FROM c",
        "MOVE 1 IN c",
        "FETCH ALL FROM c",
        "CLOSE c",
        "COMMIT",
        "DECLARE h CURSOR WITH HOLD FOR SELECT generate_series(1, 3)",
        "FETCH 1 FROM h",
        "FETCH ALL FROM h",
        "CLOSE h",
        "FETCH 1 FROM h",
        "DECLARE c CURSOR FOR SELECT 1",
    ),
    "psql: PREPARE and EXECUTE": say(
        "PREPARE q (int) AS SELECT $1 + 1",
        "EXECUTE q (1)",
        "EXECUTE q (2)",
        "DEALLOCATE q",
        "EXECUTE q (3)",
        "DEALLOCATE q",
        "DEALLOCATE ALL",
    ),
    "EXECUTE of a statement that the protocol has prepared": [
        ask(parse("SELECT 7", "seven")),
        *say("EXECUTE seven", "DEALLOCATE seven", "DEALLOCATE seven"),
        ask(bind(name="seven"), execute()),
    ],
    "node-postgres: a name is parsed once": [
        ask(parse("SELECT $1::int", "n"), bind("1", name="n"), describe(), execute()),
        ask(bind("2", name="n"), describe(), execute()),
        ask(parse("SELECT $1::int", "n")),
    ],
    "a setting whose name is a parameter": [
        ask(run("SELECT set_config($1, $2, false)", "my.own", "1")),
        *say("SELECT current_setting('my.own')"),
    ],
    "messages that name what is not there": [
        ask(bind(name="nothing"), execute()),
        ask(describe("S", "nothing")),
        ask(describe("P", "nothing")),
        ask(execute(portal="nothing")),
        ask(close("S", "nothing"), close("P", "nothing")),
        ask(parse("SELECT FROM WHERE")),
        ask(parse("")),
        ask(run("")),
        ask(),
        *say("SELECT FROM WHERE"),
    ],
    "parameters that do not fit": [
        ask(parse("SELECT $1::int"), bind()),
        ask(parse("SELECT $1::int"), bind("x"), execute()),
        ask(parse("SELECT $1::int"), bind("1", "2"), execute()),
    ],
    "a portal outlives its Sync in a transaction only": [
        ask(parse("SELECT generate_series(1, 3)"), bind(portal="p"), execute(1, "p")),
        ask(execute(1, "p")),
        *say("BEGIN"),
        ask(parse("SELECT generate_series(1, 3)"), bind(portal="p"), execute(1, "p")),
        ask(execute(1, "p")),
        *say("COMMIT"),
        ask(execute(1, "p")),
    ],
    "notices": say(
        "DO $$ BEGIN RAISE NOTICE 'told'; RAISE WARNING 'warned'; END $$",
        "SELECT say('hello')",
        "DROP TABLE IF EXISTS nowhere",
    ),
    "the function-call protocol": [
        # abs(integer), its argument and its result as text.
        Step(message(b"F", struct.pack(">IHHHI", 1397, 1, 0, 1, 2) + b"-7" + struct.pack(">H", 0))),
    ],
    "a prepared statement whose table has changed": [
        *say("CREATE TABLE changing (a int, b int)", "INSERT INTO changing VALUES (1, 2)"),
        ask(parse("SELECT * FROM changing", "s"), bind(name="s"), execute()),
        *say("ALTER TABLE changing ALTER b TYPE text"),
        ask(parse("SELECT * FROM changing", "t"), bind(name="t"), execute()),
        *say("DROP TABLE changing"),
    ],
}

# What the server said last, before it closed.
LAST_WORDS: dict[str, Sequence[Step]] = {
    "the server ends the connection": [
        Step(query("SELECT pg_terminate_backend(pg_backend_pid())"), until=b""),
    ],
    "the server ends the connection in a transaction": [
        *say("BEGIN", WRITE),
        Step(query("SELECT pg_terminate_backend(pg_backend_pid())"), until=b""),
    ],
}


@pytest.fixture
def trusting(start_proxy: StartProxy) -> Proxy:
    """A proxy that asks nobody for a password."""
    return start_proxy(auth="trust")


@pytest.mark.parametrize("habit", HABITS)
def test_drivers_are_answered_as_by_postgresql(lab: Lab, trusting: Proxy, habit: str) -> None:
    assert played(trusting.port, HABITS[habit]) == played(lab.primary.port, HABITS[habit])


@pytest.mark.parametrize("habit", LAST_WORDS)
def test_last_words_are_those_of_postgresql(lab: Lab, trusting: Proxy, habit: str) -> None:
    assert played(trusting.port, LAST_WORDS[habit]) == played(lab.primary.port, LAST_WORDS[habit])
