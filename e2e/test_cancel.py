"""Statements that are cancelled: by requests, of which none is lost or meets anybody else when the pool is full, and by
functions that know the numbers of the proxy's clients.

`HIGHWATER_CANCELS` tells how many requests are made, instead of 10000; HIGHWATER_SEED repeats a run.
"""

import asyncio
import os
import random
import time
from pathlib import Path

import asyncpg
import psycopg
import pytest

from harness.lab import Lab
from harness.messages import SYNC, run
from harness.proxy import Proxy
from harness.streams import WireStream, error_of
from harness.waiting import until
from harness.wire import query

CANCELS = int(os.environ.get("HIGHWATER_CANCELS", "10000"))
SEED = int(os.environ.get("HIGHWATER_SEED", "0")) or random.randrange(1, 1 << 31)
# Many times what the servers' connections can take.
TARGETS, VICTIMS = 120, 12
# So long may the end of a cancelled statement take while the machine does other things.
BOUND_SECONDS = 10.0
DATABASES = ["shop@primary", "shop@replica", "shop"]


class Target:
    """Runs what takes for ever, or about as long as a cancel request, and is cancelled."""

    def __init__(self, client: WireStream, number: int) -> None:
        self._client, self._number = client, number
        self._seconds = 0.0
        self.latencies: list[float] = []
        self.overtaken, self.by_server = 0, 0

    @property
    def pid(self) -> str:
        """As the console tells it."""
        return str(self._client.pid)

    async def close(self) -> None:
        """Leave."""
        await self._client.close()

    def begin(self, seconds: float) -> None:
        """Start a statement by one protocol or the other, by itself or in a transaction."""
        self._seconds = seconds
        sql = f"SELECT pg_sleep({seconds}), 'target {self._number}'"
        kinds = [query(sql), run(sql) + SYNC, query("BEGIN; " + sql), query("SELECT 1; " + sql)]
        self._client.send(kinds[self._number % len(kinds)])

    async def end(self) -> None:
        """Cancel it; it must end soon, by the request unless it was quicker."""
        asked = time.monotonic()
        ended = asyncio.create_task(self._client.answer())
        await asyncio.gather(self._client.cancel(), asyncio.wait_for(ended, BOUND_SECONDS))
        self.latencies.append(time.monotonic() - asked)
        told = ended.result()
        error = error_of(told)
        self.overtaken += not error
        # What the proxy itself says names no file.
        self.by_server += "F" in error
        assert error.get("C") == "57014" or (self._seconds < 1 and not error), (self._number, self._seconds, told)
        if told[-1][1] != b"I":
            await self._client.rows("ROLLBACK")


async def victim(port: int, number: int, over: asyncio.Event) -> int:
    """Run short statements, of which none may fail or bring anybody else's answer; how many they were."""
    client = await WireStream.log_in(port, database=DATABASES[number % len(DATABASES)])
    count = 0
    while not over.is_set():
        count += 1
        told = f"victim {number} {count}"
        client.send(query(f"SELECT '{told}', pg_sleep(0.002)"))
        answer = await client.answer()
        assert [tag for tag, _ in answer] == [b"T", b"D", b"C", b"Z"], (told, answer)
        assert told.encode() in answer[1][1], (told, answer)
    await client.close()
    return count


async def storm(port: int) -> tuple[list[Target], int]:
    """Make all requests, wave by wave; whom they met, and how many statements the others ran."""
    dice = random.Random(SEED)
    console = await WireStream.log_in(port, "highwater", "highwater")
    over = asyncio.Event()
    victims = [asyncio.create_task(victim(port, number, over)) for number in range(VICTIMS)]
    logins = [WireStream.log_in(port, database=DATABASES[number % len(DATABASES)]) for number in range(TARGETS)]
    targets = [Target(client, number) for number, client in enumerate(await asyncio.gather(*logins))]
    left = CANCELS
    while left > 0:
        wave = dice.sample(targets, min(left, TARGETS))
        endless = [target for target in wave if dice.random() < 0.8]
        for target in wave:
            target.begin(600 if target in endless else dice.random() * 0.02)
        # A request that comes before its statement hits nothing, on PostgreSQL as well.
        waiting = {target.pid for target in endless}
        while waiting:
            shown = await console.rows("SHOW CLIENTS")
            waiting -= {row[0] for row in shown if row[6] == "active"}
        await asyncio.gather(*(target.end() for target in wave))
        left -= len(wave)
    over.set()
    served = await asyncio.gather(*victims)
    await asyncio.gather(console.close(), *(target.close() for target in targets))
    return targets, sum(served)


@pytest.mark.timeout(60 + CANCELS // 20)
@pytest.mark.parametrize("pool_size", [3, 24])
def test_no_cancel_request_is_lost_or_hits_anybody_else(lab: Lab, tmp_path: Path, pool_size: int) -> None:
    settings = {"auth": "trust", "pool_size": pool_size, "checkout_timeout": "2min", "wait_budget": "10s"}
    proxy = Proxy(tmp_path, lab.servers, **settings)
    proxy.until_it_sees(lab.servers)
    began = time.monotonic()
    targets, served = asyncio.run(storm(proxy.port))
    latencies = sorted(seconds for target in targets for seconds in target.latencies)
    overtaken, by_server = sum(one.overtaken for one in targets), sum(one.by_server for one in targets)
    half, most, all_ = (round(latencies[(len(latencies) - 1) * part // 100] * 1000) for part in (50, 99, 100))
    print(f"\n{len(latencies)} cancels in {time.monotonic() - began:.1f} s; seed {SEED}")
    print(f"{by_server} met statements that ran, {overtaken} came after the end, the others met the queue")
    print(f"worked within {half} ms (50%), {most} ms (99%), {all_} ms (100%); {served} statements of others untouched")
    assert len(latencies) == CANCELS
    # Both ways were gone, often.
    assert CANCELS // 50 < by_server < CANCELS * 9 // 10
    sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trusted' AND state <> 'idle'"
    until("all servers to be quiet", lambda: not any(server.value(sql) for server in lab.servers))
    pools = proxy.console("SHOW POOLS")
    assert {(pool["sv_active"], pool["cl_waiting"]) for pool in pools} == {("0", "0")}, pools
    proxy.stop()


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_functions_know_clients_by_binary_parameters(lab: Lab, proxy: Proxy, driver: str, function: str) -> None:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60) /* known by number */%'"
    # No process has this number: the server says so.
    nobody = (1 << 22) - 1

    async def answers_to(port: int, numbers: list[int]) -> list[bool]:
        call = f"SELECT {function}"
        if driver == "psycopg":
            target = {**proxy.parameters(), "port": port}
            async with await psycopg.AsyncConnection.connect(**target, autocommit=True) as other:
                cursors = [await other.execute(f"{call}(%b)", (number,), binary=True) for number in numbers]
                return [(await cursor.fetchone() or (False,))[0] for cursor in cursors]
        other = await connected(port)
        statement = await other.prepare(f"{call}($1)")
        told = [await statement.fetchval(number) for number in numbers]
        await other.close()
        return told

    async def scenario(port: int) -> tuple[list[bool], str]:
        victim = await connected(port)
        number = await victim.fetchval("SELECT pg_backend_pid()")
        sleeping = asyncio.create_task(victim.execute("SELECT pg_sleep(60) /* known by number */"))
        while not sum(server.value(sql) for server in lab.servers):
            await asyncio.sleep(0.01)
        told = await answers_to(port, [nobody, number])
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as ended:
            await sleeping
        await victim.close()
        return told, type(ended.value).__name__

    assert asyncio.run(scenario(proxy.port)) == asyncio.run(scenario(lab.primary.port))


async def connected(port: int) -> asyncpg.Connection:
    """A client of asyncpg, whose parameters are binary."""
    return await asyncpg.connect(host="127.0.0.1", port=port, user="app", password="app", database="shop", ssl=False)
