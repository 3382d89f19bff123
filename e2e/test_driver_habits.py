"""What drivers do by the protocol is answered as PostgreSQL answers it: the same messages, directly and through us.

Each habit is told as what a client sends and what it waits for. Ids of processes differ, nothing else does.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from conftest import StartProxy
from harness.lab import Lab
from harness.proxy import Proxy
from harness.wire import Wire, message, query

SYNC, FLUSH = message(b"S", b""), message(b"H", b"")
COPY_DONE = message(b"c", b"")


def _text(*words: str) -> bytes:
    return b"".join(word.encode() + b"\0" for word in words)


def parse(sql: str, name: str = "") -> bytes:
    """Parse, all types left to the server."""
    return message(b"P", _text(name, sql) + b"\0\0")


def bind(*values: str, name: str = "", portal: str = "") -> bytes:
    """Bind, everything as text."""
    body = b"".join(struct.pack(">I", len(value)) + value.encode() for value in values)
    return message(b"B", _text(portal, name) + b"\0\0" + struct.pack(">H", len(values)) + body + b"\0\0")


def describe(kind: str = "P", name: str = "") -> bytes:
    """Describe a portal, or a statement: S."""
    return message(b"D", kind.encode() + _text(name))


def execute(rows: int = 0, portal: str = "") -> bytes:
    """Execute, up to so many rows."""
    return message(b"E", _text(portal) + struct.pack(">I", rows))


def close(kind: str, name: str) -> bytes:
    """Close a portal or a statement."""
    return message(b"C", kind.encode() + _text(name))


def run(sql: str, *values: str) -> bytes:
    """An unnamed statement from Parse to Execute."""
    return parse(sql) + bind(*values) + describe() + execute()


def copy_data(text: str) -> bytes:
    """Some COPY data."""
    return message(b"d", text.encode())


@dataclass(frozen=True)
class Step:
    """Send, then read up to this message, so many times."""

    send: bytes
    until: bytes = b"Z"
    times: int = 1


def ask(*parts: bytes) -> Step:
    """Messages that end in Sync."""
    return Step(b"".join(parts) + SYNC)


def say(*statements: str) -> list[Step]:
    """Simple queries, one after the other."""
    return [Step(query(sql)) for sql in statements]


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
        Step(copy_data("-1\tone\n") + message(b"f", _text("enough")) + SYNC),
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


# The servers are on this machine.
_PATIENCE_SECONDS = 5


def _played(port: int, steps: Sequence[Step]) -> list[tuple[str, str]]:
    """All messages that come back, as text."""
    told = []
    # What hangs is told as such, soon.
    with Wire(port) as wire:
        wire.socket.settimeout(_PATIENCE_SECONDS)
        wire.log_in()
        for step in steps:
            wire.send(step.send)
            left = step.times
            while left:
                try:
                    tag, body = wire.receive()
                except TimeoutError:
                    return [*told, ("", "no answer")]
                told.append((tag.decode(), _shown(tag, body)))
                left -= tag == step.until
                if not tag:
                    return told
    return told


def _shown(tag: bytes, body: bytes) -> str:
    """A message without what differs from run to run: object ids of tables, and lines of PostgreSQL's sources."""
    if tag in (b"E", b"N"):
        fields = [field for field in body.split(b"\0") if field and field[:1] not in b"FLR"]
        return " ".join(field.decode() for field in fields)
    return "" if tag == b"T" and b"a\0" in body else body.decode("latin-1").replace("\0", "|")


@pytest.fixture
def trusting(start_proxy: StartProxy) -> Proxy:
    """A proxy that asks nobody for a password."""
    return start_proxy(auth="trust")


@pytest.mark.parametrize("habit", HABITS)
def test_drivers_are_answered_as_by_postgresql(lab: Lab, trusting: Proxy, habit: str) -> None:
    assert _played(trusting.port, HABITS[habit]) == _played(lab.primary.port, HABITS[habit])


@pytest.mark.parametrize("habit", LAST_WORDS)
def test_last_words_are_those_of_postgresql(lab: Lab, trusting: Proxy, habit: str) -> None:
    assert _played(trusting.port, LAST_WORDS[habit]) == _played(lab.primary.port, LAST_WORDS[habit])
