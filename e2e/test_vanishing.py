"""Clients that vanish after any message, or in the middle of one: nothing is left of them, and the next client works.

Every script is played up to each of its messages in turn, and cut off there in four ways: behind the message or half
way through it, by a reset or by the end of the stream. The pool has one connection for each server, so that the next
client gets the one that the vanished client used. In the end many clients do all of that at once, without waiting for
answers; HIGHWATER_VANISHING tells how many instead of 600, HIGHWATER_SEED repeats a run.
"""

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from harness.lab import Lab
from harness.messages import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    describe,
    execute,
    function_call,
    parse,
    run,
)
from harness.playing import Step, say
from harness.proxy import Proxy
from harness.traces import LEFT
from harness.waiting import until
from harness.wire import SSL_REQUEST, Wire, message, query, startup

# Longer than any test.
FOREVER = "pg_sleep(600)"
# More than all buffers on the way hold.
MUCH = "SELECT repeat('x', 10000) FROM generate_series(1, 2000)"
READ = "SELECT v FROM counter WHERE id = -1001"
# What must not be committed, and what may.
WRITE, TOUCH = "UPDATE counter SET v = 9 WHERE id = -1001", "UPDATE counter SET v = v WHERE id = -1001"
# A row that somebody else has locked.
BLOCKED = "UPDATE counter SET v = v WHERE id = -1002"


def untold(*messages: bytes) -> list[Step]:
    """Messages that nobody answers yet, one after the other."""
    return [Step(message, times=0) for message in messages]


SCRIPTS: dict[str, Sequence[Step]] = {
    "statements": say("SELECT 1", "SELECT 1; SELECT 2", TOUCH, READ, "SELECT 1 / 0", "", "BEGIN; " + WRITE),
    "a transaction": say("BEGIN", READ, WRITE, "SAVEPOINT a", "SELECT 1 / 0", "ROLLBACK TO a", READ),
    "a failed transaction": say("BEGIN", WRITE, "SELECT 1 / 0", READ),
    "a read-only transaction": say("BEGIN READ ONLY", READ, "SET LOCAL work_mem = '7MB'", READ, f"SELECT {FOREVER}"),
    "a transaction on a standby": say(
        "SET highwater.transaction_reads = 'standby'", "BEGIN", READ, "SAVEPOINT a", "SET work_mem = '7MB'", READ, WRITE
    ),
    "a serializable transaction": say("BEGIN ISOLATION LEVEL SERIALIZABLE", READ, WRITE),
    "settings": say("SET work_mem = '7MB'", "SET search_path = nowhere", "SELECT set_config('app.tenant', '3', false)"),
    "extended messages": untold(
        parse("SELECT $1::int", "s"), bind("7", name="s", portal="p"), describe("S", "s"), describe("P", "p"),
        execute(portal="p"), FLUSH, close("P", "p"), parse(WRITE), bind(), execute(), FLUSH,
    ),
    "prepared statements": [
        Step(parse(READ, "one") + describe("S", "one") + SYNC),
        Step(bind(name="one") + execute() + SYNC),
        *say("PREPARE two AS SELECT 2", "EXECUTE two", "DEALLOCATE one", "PREPARE three AS " + WRITE),
    ],
    "a pipeline that fails": untold(run(READ), run("SELECT 1 / 0"), run(WRITE), SYNC, run(READ), SYNC),
    "a pipeline in a transaction": untold(run("BEGIN"), SYNC, run(WRITE), SYNC, run(READ), run("SELECT 1 / 0"), SYNC),
    "portals read by pieces": [
        *say("BEGIN"),
        *untold(parse("SELECT generate_series(1, 9)"), bind(portal="p")),
        Step(execute(2, "p") + FLUSH, until=b"s"),
        Step(execute(2, "p") + SYNC),
        Step(execute(2, "p") + FLUSH, until=b"s"),
    ],
    "cursors": say(
        "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 5)", "FETCH 2 FROM held", "BEGIN",
        "DECLARE own CURSOR FOR SELECT generate_series(1, 5)", "FETCH 1 FROM own",
    ),
    "COPY in": [Step(query("COPY bulk FROM STDIN"), until=b"G"), *untold(copy_data("1\tone\n"), copy_data("2\ttwo\n"))],
    "COPY in that ends": [
        *say("BEGIN"),
        Step(query("COPY bulk FROM STDIN"), until=b"G"),
        *untold(copy_data("1\tone\n"), COPY_DONE),
    ],
    "COPY in by extended messages": [
        Step(parse("COPY bulk FROM STDIN") + bind() + execute() + SYNC, until=b"G"),
        *untold(copy_data("1\tone\n"), message(b"f", b"enough\0"), SYNC),
    ],
    "COPY in of a bad row": [
        Step(query("COPY bulk FROM STDIN"), until=b"G"),
        *untold(copy_data("bad\n"), copy_data("2\ttwo\n")),
    ],
    "COPY out": [Step(query(f"COPY ({MUCH}) TO STDOUT"), until=b"d", times=2), *untold(query("SELECT 1"))],
    "a large result": [Step(query(MUCH), until=b"D", times=2), *untold(query(READ), FLUSH)],
    "a large result in a transaction": [*say("BEGIN", WRITE), Step(query(MUCH), until=b"D")],
    "rows of a write": [Step(query(f"WITH w AS ({TOUCH}) {MUCH}"), until=b"D", times=2)],
    "LISTEN": say("LISTEN news", "NOTIFY news", "SELECT 1", "BEGIN", "LISTEN others", "NOTIFY others"),
    "a temporary table": say("CREATE TEMP TABLE mine (i int)", "INSERT INTO mine SELECT 1", "BEGIN", "DROP TABLE mine"),
    "an advisory lock": say("SELECT pg_advisory_lock(1)", "BEGIN", "SELECT pg_advisory_xact_lock(2)"),
    "function calls": [
        # abs(integer), pg_advisory_lock(bigint).
        Step(function_call(1397, b"-7")),
        Step(function_call(2880, b"3")),
        *say("BEGIN"),
        Step(function_call(1397, b"x")),
    ],
    "a long read": untold(query(f"SELECT {FOREVER}")),
    "a long read by extended messages": untold(run(f"SELECT {FOREVER}") + SYNC),
    "a long read without Sync": untold(run(f"SELECT {FOREVER}"), FLUSH),
    "a long statement in a transaction": [*say("BEGIN", WRITE), *untold(query(f"DO 'BEGIN PERFORM {FOREVER}; END'"))],
    "long statements in one message": untold(query(f"BEGIN; {WRITE}; SELECT {FOREVER}")),
    "a long read and much behind it": untold(query(f"SELECT {FOREVER}"), query(f"SELECT '{'x' * 200_000}'")),
    "a long write": untold(query(f"{TOUCH}; SELECT {FOREVER}")),
    "a lock that somebody holds": [*say("BEGIN"), *untold(query(BLOCKED))],
    "a lock that somebody holds, by itself": untold(query(BLOCKED)),
    "a lock for a pipeline": untold(run(WRITE) + run(BLOCKED), FLUSH, SYNC),
    "the end": [*say("BEGIN", WRITE), *untold(message(b"X", b""))],
}  # fmt: skip

WAYS = [(whole, reset) for whole in (True, False) for reset in (True, False)]

WORKING = "usename = 'trusted' AND state <> 'idle'"
ACTIVITY = """WITH own AS (SELECT * FROM pg_stat_activity WHERE usename = 'trusted')
    SELECT state || ': ' || left(query, 60) FROM own WHERE state <> 'idle'
    UNION ALL SELECT 'connections: ' || count(*) FROM own HAVING count(*) > 1
    UNION ALL SELECT 'lock: ' || objid FROM pg_locks WHERE locktype = 'advisory'
    UNION ALL SELECT 'temporary: ' || relname FROM pg_class WHERE relpersistence = 't'"""


class Watch:
    """Looks at everything that a vanished client could have left, from outside."""

    def __init__(self, lab: Lab, proxy: Proxy, stack: ExitStack) -> None:
        self._servers = [stack.enter_context(server.connect()) for server in lab.servers]
        target = proxy.parameters("highwater", "highwater", "highwater")
        self._console = stack.enter_context(psycopg.connect(**target, autocommit=True, prepare_threshold=None))
        self._proxy = proxy
        self._fresh = self._seen()

    def _asked(self, command: str) -> list[dict[str, Any]]:
        cursor = self._console.execute(command)
        names = [column.name for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def _left(self) -> list[str]:
        """What there is and should not be."""
        pools = self._asked("SHOW POOLS")
        found = [f"in use: {pool}" for pool in pools if pool["sv_active"] != "0" or pool["cl_waiting"] != "0"]
        found += [f"grown: {pool}" for pool in pools if int(pool["sv_active"]) + int(pool["sv_idle"]) > 1]
        found += [f"there: {client}" for client in self._asked("SHOW CLIENTS") if client["database"] != "highwater"]
        return found + [text for server in self._servers for (text,) in server.execute(ACTIVITY)]

    def waiting(self) -> int:
        """How many clients wait for a server connection."""
        return sum(int(pool["cl_waiting"]) for pool in self._asked("SHOW POOLS"))

    def _seen(self) -> list[bytes]:
        """What new clients find on the primary and on a standby."""
        seen = []
        for database in ("shop@primary", "shop@replica"):
            with Wire(self._proxy.port) as wire:
                wire.log_in(database=database)
                wire.send(query(LEFT))
                seen.append(wire.until(b"D"))
                wire.until(b"Z")
        return seen

    def look(self, what: str, seconds: float) -> None:
        """Nothing is left soon, and the next clients find what the first ones found."""
        try:
            until(f"nothing to be left: {what}", lambda: not self._left(), seconds)
        except TimeoutError:
            raise AssertionError(f"{what}: {self._left()}") from None
        assert self._seen() == self._fresh, what


@pytest.fixture(scope="module")
def _shared() -> Iterator[list[Proxy]]:
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def small(lab: Lab, _shared: list[Proxy], tmp_path_factory: pytest.TempPathFactory) -> Proxy:
    """A proxy with one connection for each server, that lets a write go on for a second when its client is gone."""
    lab.primary.rows("INSERT INTO counter VALUES (-1001, 0), (-1002, 0), (-1003, 0) ON CONFLICT DO NOTHING")
    lab.primary.rows("TRUNCATE bulk")
    lab.primary.rows("UPDATE counter SET v = 0 WHERE id < -1000 AND v <> 0")
    # Of a test that has failed.
    for server in lab.servers:
        server.rows(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {WORKING}")
    lab.settle()
    if not _shared or not _shared[-1].is_running():
        settings = {"auth": "trust", "pool_size": 1, "workers": 1, "wait_budget": "10s"}
        settings |= {"client_gone_timeout": "1s", "client_stall_timeout": "1s"}
        _shared[:] = [Proxy(tmp_path_factory.mktemp("small"), lab.servers, **settings)]
        _shared[-1].until_it_sees(lab.servers)
    return _shared[-1]


def cut(wire: Wire, steps: Sequence[Step], at: int, whole: bool) -> None:
    """Play the script up to step `at`, and of that send all or half; its answer is not read."""
    for step in steps[:at]:
        wire.send(step.send)
        for _ in range(step.times):
            wire.until(step.until)
    last = steps[at].send
    wire.send(last if whole else last[: len(last) // 2])


def hold(other: psycopg.Connection) -> None:
    """Lock the row for which scripts wait."""
    other.execute("BEGIN")
    other.execute("SELECT v FROM counter WHERE id = -1002 FOR UPDATE")


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_left_of_a_client_that_vanishes(lab: Lab, small: Proxy, name: str) -> None:
    steps = SCRIPTS[name]
    with ExitStack() as stack:
        watch = Watch(lab, small, stack)
        hold(stack.enter_context(lab.primary.connect()))
        for at in range(len(steps)):
            for whole, reset in WAYS:
                what = f"{name}, message {at + 1}, {'whole' if whole else 'half'}, {'reset' if reset else 'end'}"
                with Wire(small.port) as wire:
                    wire.log_in()
                    cut(wire, steps, at, whole)
                    wire.vanish() if reset else wire.fall_silent()
                    watch.look(what, seconds=5)
        assert lab.primary.rows("SELECT v FROM counter WHERE id = -1001") == [(0,)]
        assert lab.primary.value("SELECT count(*) FROM bulk") == 0


BEFORE_LOGIN: dict[str, Sequence[bytes]] = {
    "start-up": [startup("trusted", "shop")],
    "password": [startup("app", "shop"), message(b"p", b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=" + b"a" * 24)],
    "encryption": [SSL_REQUEST, startup("trusted", "shop")],
    "cancel request": [struct.pack(">IIII", 16, 80877102, 1, 2)],
    "console": [startup("highwater", "highwater"), query("SHOW POOLS"), query("SHOW CONFIG")],
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE_LOGIN)
def test_nothing_is_left_of_a_client_that_vanishes_while_it_logs_in(lab: Lab, small: Proxy, name: str) -> None:
    with ExitStack() as stack:
        watch = Watch(lab, small, stack)
        steps = BEFORE_LOGIN[name]
        for at in range(len(steps)):
            for whole, reset in WAYS:
                with Wire(small.port) as wire:
                    for step in steps[:at]:
                        wire.send(step)
                        wire.socket.recv(1)
                    wire.send(steps[at] if whole else steps[at][: len(steps[at]) // 2])
                    wire.vanish() if reset else wire.fall_silent()
                    watch.look(f"{name}, {at + 1}, {whole}, {reset}", seconds=5)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "end"])
def test_who_vanishes_leaves_the_queue(lab: Lab, small: Proxy, reset: bool) -> None:
    """But for a write by itself: as PostgreSQL does, the proxy carries it out for a client that said it and went."""
    with ExitStack() as stack:
        watch = Watch(lab, small, stack)
        holder = stack.enter_context(Wire(small.port))
        holder.log_in(database="shop@primary")
        holder.send(query("BEGIN; SELECT 1"))
        holder.until(b"Z")

        def queued(statement: str) -> Wire:
            wire = stack.enter_context(Wire(small.port))
            wire.log_in(database="shop@primary")
            wire.send(query(statement))
            until("the client to wait", lambda: watch.waiting() == 1)
            wire.vanish() if reset else wire.fall_silent()
            return wire

        for statement in (READ, f"SELECT {FOREVER}", "BEGIN; " + WRITE):
            queued(statement)
            until("the client to be gone", lambda: watch.waiting() == 0, seconds=5)
        queued("UPDATE counter SET v = v + 1 WHERE id = -1003")
        holder.send(query("COMMIT"))
        holder.until(b"Z")
        counted = "SELECT v FROM counter WHERE id = -1003"
        until("the write to be carried out", lambda: lab.primary.value(counted) == 1, seconds=5)
        lab.primary.rows("UPDATE counter SET v = 0 WHERE id = -1003")
        holder.send(message(b"X", b""))
        watch.look("the queue", seconds=5)


CROWD = int(os.environ.get("HIGHWATER_VANISHING", "600"))
SEED = int(os.environ.get("HIGHWATER_SEED", "0")) or random.randrange(1, 1 << 31)
# Each of these takes a place in the pool for a second.
SLOW = {
    "a long write", "a lock that somebody holds, by itself", "a lock for a pipeline", "a long read and much behind it",
}  # fmt: skip


async def careless(port: int, dice: random.Random, places: asyncio.Semaphore) -> None:
    """Log in, say a part of a script in one go, and vanish a little later."""
    script = SCRIPTS[dice.choice(sorted(SCRIPTS.keys() - SLOW))]
    said = b"".join(step.send for step in script)
    said = said[: dice.randrange(len(said) + 1)] if dice.random() < 0.8 else said
    patience, database, reset = dice.random() ** 2 * 0.2, dice.choice(["shop", "shop@primary"]), dice.random() < 0.5
    async with places:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(startup("trusted", database) + said)
        await asyncio.sleep(patience)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.mark.timeout(60 + CROWD // 10)
def test_nothing_is_left_of_a_crowd(lab: Lab, small: Proxy) -> None:
    print(f"\nseed {SEED}")
    dice = random.Random(SEED)

    async def crowd() -> None:
        places = asyncio.Semaphore(40)
        await asyncio.gather(*(careless(small.port, random.Random(dice.random()), places) for _ in range(CROWD)))

    with ExitStack() as stack:
        watch = Watch(lab, small, stack)
        hold(stack.enter_context(lab.primary.connect()))
        asyncio.run(crowd())
        watch.look(f"{CROWD} clients", seconds=30)
        assert lab.primary.rows("SELECT v FROM counter WHERE id = -1001") == [(0,)]
