"""A read on a standby, then one on the primary: does the second show less than the first?

PostgreSQL writes a commit to the log before its own sessions see it. A standby that replays quickly shows it first, and
for longer where commits wait for standbys. With Highwater the second read must wait until the primary shows as much.
"""

import asyncio
import multiprocessing
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from .stage import Stage

WRITERS = 4
READERS = 6
_READ = "SELECT array_agg(v ORDER BY id) FROM counter"
_ON_PRIMARY = "/* highwater.consistency='primary' */ " + _READ


@dataclass(frozen=True)
class Found:
    """What came of so many pairs."""

    pairs: int
    backward: int
    on_standbys: int


def measure(folder: Path, pairs: int) -> int:
    """Asynchronous and synchronous replication, without Highwater and with it; prints a table."""
    status = 0
    stage = Stage(folder, 2 * WRITERS, 1, has_partitions=False)
    try:
        print(
            f"{'replication':<14}{'through':<12}{'pairs':>8}{'first on standbys':>19}{'backward steps':>16}", flush=True
        )
        for replication in ("asynchronous", "synchronous"):
            names = "*" if replication == "synchronous" else ""
            with stage.primary.with_setting("synchronous_standby_names", names):
                for through in ("nothing", "Highwater"):
                    found = _measure(stage, through == "Highwater", pairs)
                    cells = f"{found.pairs:>8}{found.on_standbys:>19}{found.backward:>16}"
                    print(f"{replication:<14}{through:<12}{cells}", flush=True)
                    is_right = (found.backward == 0) == (through == "Highwater")
                    status |= not is_right or 2 * found.on_standbys < found.pairs
    finally:
        stage.close()
    return status


def _measure(stage: Stage, guarded: bool, pairs: int) -> Found:
    context = multiprocessing.get_context("spawn")
    stop, done = context.Event(), context.Queue()
    writers = context.Process(target=_write, args=(stage.primary.port, stop), daemon=True)
    ports = [stage.proxies[0].port] * 2 if guarded else [stage.primary.port, stage.standbys[0].port]
    before = _on_standbys(stage) if guarded else 0
    writers.start()
    readers = context.Process(target=_read, args=(ports[0], ports[1], guarded, pairs, done), daemon=True)
    readers.start()
    backward = done.get(timeout=600)
    stop.set()
    writers.join()
    readers.join()
    return Found(pairs, backward, _on_standbys(stage) - before if guarded else pairs)


def _on_standbys(stage: Stage) -> int:
    names = {standby.name for standby in stage.standbys}
    return sum(int(row["count"]) for row in stage.proxies[0].console("SHOW ROUTES") if row["server"] in names)


async def _connect(port: int) -> asyncpg.Connection:
    settings = {"highwater.consistency": "session", "highwater.wait_budget": "5s"}
    return await asyncpg.connect(
        host="127.0.0.1", port=port, user="app", password="app", database="shop", server_settings=settings
    )


def _write(port: int, stop: Any) -> None:
    """Busy writers, each on a counter of its own, who wait for standbys where there are synchronous ones."""

    async def writer(number: int) -> None:
        connection = await _connect(port)
        await connection.execute("SET synchronous_commit = remote_apply")
        while not stop.is_set():
            await connection.execute("UPDATE counter SET v = v + 1 WHERE id = $1", number)
        await connection.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(writer(number) for number in range(WRITERS)))

    asyncio.run(all_of_them())


def _read(primary: int, standby: int, guarded: bool, pairs: int, done: Any) -> None:
    left = pairs
    backward = 0

    async def reader(dice: random.Random) -> None:
        nonlocal left, backward
        first = await _connect(standby)
        second = first if guarded else await _connect(primary)
        while left > 0:
            left -= 1
            seen = await first.fetchval(_READ)
            then = await second.fetchval(_ON_PRIMARY)
            backward += any(late < early for early, late in zip(seen, then, strict=True))
            await asyncio.sleep(dice.random() / 1000)

    async def all_of_them() -> None:
        await asyncio.gather(*(reader(random.Random(number)) for number in range(READERS)))

    asyncio.run(all_of_them())
    done.put(backward)
