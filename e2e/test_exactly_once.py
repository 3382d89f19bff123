"""A statement runs exactly once, whatever a pipeline is cut into: nothing that went along is run on its own later."""

import asyncio

import asyncpg
import psycopg

from conftest import Connect
from harness.lab import Lab
from harness.proxy import Proxy
from harness.schema import Row

ROUNDS = 200


def test_statements_behind_a_flush_run_once(lab: Lab, proxy: Proxy, row: Row) -> None:
    """asyncpg parses with Flush and syncs only with the first execution: one open pipeline in two packets."""

    async def scenario() -> None:
        target = proxy.parameters()
        target["database"] = target.pop("dbname")
        client = await asyncpg.connect(**target, ssl=False)
        for _ in range(ROUNDS):
            await client.execute("UPDATE counter SET v = v + 1 WHERE id = $1", row.id)
        await client.close()

    asyncio.run(scenario())
    assert row.read(lab.primary) == ROUNDS


def test_statements_of_a_driver_pipeline_run_once(lab: Lab, proxy: Proxy, row: Row) -> None:
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        for _ in range(10):
            with client.pipeline() as pipeline:
                for number in range(ROUNDS // 10):
                    client.execute("UPDATE counter SET v = v + 1 WHERE id = %s", (row.id,))
                    if number % 7 == 0:
                        pipeline.sync()
    assert row.read(lab.primary) == ROUNDS


def test_copied_rows_arrive_once(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        for _ in range(5):
            with client.cursor().copy("COPY bulk FROM STDIN") as copy:
                for number in range(ROUNDS):
                    copy.write_row((row.id, f"line {number}"))
    assert lab.primary.rows("SELECT count(*) FROM bulk WHERE id = %s", row.id) == [(5 * ROUNDS,)]
