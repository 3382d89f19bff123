"""Which server a statement runs on: reads on standbys, the rest on the primary, and what the client may choose."""

import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, Connection, SqlError
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

STANDBYS = {"standby1", "standby2"}

READS = [
    "SELECT v FROM counter WHERE id = {id}",
    "SELECT peek({id})",
    "SELECT count(*) FROM pg_class",
    "WITH x AS (SELECT v FROM counter WHERE id = {id}) SELECT v FROM x",
    "SELECT 1 UNION ALL SELECT v FROM counter WHERE id = {id}",
    "VALUES (1)",
    "TABLE bulk",
    "EXPLAIN SELECT v FROM counter",
    "EXPLAIN ANALYZE SELECT v FROM counter WHERE id = {id}",
    "select 'insert into counter' -- update\n",
]

NOT_READS = [
    "UPDATE counter SET v = v WHERE id = {id}",
    "INSERT INTO bulk VALUES ({id}, 'x') RETURNING id",
    "DELETE FROM bulk WHERE id = -1",
    "WITH x AS (UPDATE counter SET v = v WHERE id = {id} RETURNING v) SELECT v FROM x",
    "SELECT v FROM counter WHERE id = {id} FOR UPDATE",
    "SELECT v FROM counter WHERE id = {id} FOR SHARE",
    "SELECT nextval('ticket')",
    "SELECT bump({id})",
    "SELECT pg_advisory_lock(1), pg_advisory_unlock(1)",
    "SELECT last_value FROM ticket",
    "EXPLAIN ANALYZE UPDATE counter SET v = v WHERE id = {id}",
    "SELECT txid_current() > 0",
    "DO $$ BEGIN PERFORM bump({id}); END $$",
    "CREATE TABLE IF NOT EXISTS counter (id int)",
    "ANALYZE bulk",
]


@pytest.mark.parametrize("statement", READS)
def test_reads_run_on_standbys(proxy: Proxy, connect: Connect, row: Row, statement: str) -> None:
    client = connect(proxy, settings=PATIENT)
    client.rows(statement.format(id=row.id))
    assert client.server() in STANDBYS


@pytest.mark.parametrize("statement", NOT_READS)
def test_everything_else_runs_on_the_primary(proxy: Proxy, connect: Connect, row: Row, statement: str) -> None:
    client = connect(proxy)
    client.run(statement.format(id=row.id))
    assert client.server() == "primary"


def test_a_volatile_function_writes_once(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    assert client.value("SELECT bump(%s)", row.id) == 1
    assert row.read(lab.primary) == 1


def test_a_function_that_lies_is_corrected(lab: Lab, start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    """Declared STABLE, it writes: the standby says 25006, and the client never learns of it."""
    proxy = start_proxy()
    client = connect(proxy, settings=PATIENT)
    assert client.value("SELECT sly_bump(%s)", row.id) == 1
    assert client.server() == "primary"
    assert row.read(client) == 1
    assert proxy.stat("corrections") >= 1
    assert row.read(lab.primary) == 1


def test_a_function_made_just_now_is_known(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    name = f"fresh_{row.id}"
    client.run(f"CREATE FUNCTION {name}() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 7'")

    def on_a_standby() -> bool:
        assert client.value(f"SELECT {name}()") == 7
        return client.server() in STANDBYS

    # Unknown functions count as writers; the catalogue is read again after DDL.
    until("the new function to be known as a reader", on_a_standby)
    client.run(f"DROP FUNCTION {name}()")


def test_a_table_made_just_now_is_there(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    with paused(lab["standby1"]):
        client.run(f"CREATE TABLE fresh_{row.id} AS SELECT 5 AS v")
        assert client.value(f"SELECT v FROM fresh_{row.id}") == 5
    client.run(f"DROP TABLE fresh_{row.id}")
    with pytest.raises(SqlError) as gone:
        client.rows(f"SELECT v FROM fresh_{row.id}")
    assert gone.value.sqlstate == "42P01"


@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "START TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"])
def test_read_only_transactions_run_on_a_standby(
    lab: Lab, proxy: Proxy, connect: Connect, row: Row, begin: str
) -> None:
    client = connect(proxy, settings=PATIENT)
    with paused(lab["standby1"]):
        row.write(client, 1)
        client.run(begin)
        assert row.read(client) == 1
        assert client.server() == "standby2"
        assert row.read(client) == 1
        with pytest.raises(SqlError) as refused:
            row.write(client, 2)
        assert refused.value.sqlstate == "25006"
        client.run("ROLLBACK")
        assert row.read(client) == 1


def test_a_read_only_transaction_keeps_its_snapshot(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    client.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    assert row.read(client) == 0
    row.write(lab.primary, 1)
    lab.settle()
    assert row.read(client) == 0
    client.run("COMMIT")
    assert row.read(client) == 1


def test_other_transactions_run_on_the_primary(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    client.run("BEGIN")
    assert row.read(client) == 0
    assert client.server() == "primary"
    row.write(client, 1)
    client.run("SAVEPOINT s")
    row.write(client, 2)
    client.run("ROLLBACK TO s")
    assert row.read(client) == 1
    client.run("COMMIT")
    assert row.read(client) == 1
    assert row.read(lab.primary) == 1


def test_rollback_leaves_nothing(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    client.run("BEGIN")
    row.write(client, 1)
    client.run("ROLLBACK")
    assert row.read(client) == 0


def test_a_failed_transaction_stays_failed(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy)
    client.run("BEGIN")
    with pytest.raises(SqlError):
        client.rows("SELECT 1 / 0")
    with pytest.raises(SqlError) as aborted:
        row.read(client)
    assert aborted.value.sqlstate == "25P02"
    client.run("ROLLBACK")
    assert row.read(client) == 0


def test_an_empty_transaction_reaches_no_server(lab: Lab, start_proxy: StartProxy, connect: Connect) -> None:
    proxy = start_proxy()
    client = connect(proxy)
    for _ in range(3):
        client.run("BEGIN")
        assert not sessions_of(lab, "app")
        client.run("COMMIT")
    client.run("BEGIN ISOLATION LEVEL SERIALIZABLE")
    client.run("ROLLBACK")
    assert not sessions_of(lab, "app")
    assert client.value("SELECT 1") == 1


def sessions_of(lab: Lab, user: str) -> list[tuple[object, ...]]:
    """What a user's connections are doing on all servers, other than nothing."""
    sql = "SELECT pid, state, query FROM pg_stat_activity WHERE usename = %s AND state <> 'idle'"
    return [activity for server in lab.servers for activity in server.rows(sql, user)]


@pytest.mark.parametrize(
    ("database", "servers"),
    [("shop@primary", {"primary"}), ("shop@replica", STANDBYS), ("shop@standby1", {"standby1"})],
)
def test_the_database_name_chooses_servers(
    proxy: Proxy, connect: Connect, row: Row, database: str, servers: set[str]
) -> None:
    client = connect(proxy, database=database)
    assert {where_it_reads(client, row) for _ in range(5)} <= servers
    assert client.value("SELECT current_database()") == "shop"


def where_it_reads(client: Connection, row: Row) -> str:
    """Where a read of the row runs."""
    row.read(client)
    return client.server()


@pytest.mark.parametrize("database", ["shop@replica", "shop@standby1"])
def test_a_chosen_standby_takes_no_writes(proxy: Proxy, connect: Connect, row: Row, database: str) -> None:
    client = connect(proxy, database=database)
    with pytest.raises(SqlError) as refused:
        row.write(client, 1)
    assert refused.value.sqlstate == "25006"
    assert row.read(client) == 0


def test_a_chosen_standby_still_keeps_the_promise(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    settings = {"highwater.consistency": "strong", "highwater.wait_budget": "50ms"}
    client = connect(proxy, database="shop@standby1", settings=settings)
    with paused(lab["standby1"]):
        row.write(lab.primary, 1)
        with pytest.raises(SqlError) as refused:
            row.read(client)
        assert refused.value.sqlstate == "53400"
        client.run("SET highwater.consistency = 'eventual'")
        assert row.read(client) == 0


def test_both_standbys_share_the_reads(proxy: Proxy, plain: Connect, row: Row) -> None:
    served = {where_it_reads(plain(proxy, settings={"highwater.consistency": "eventual"}), row) for _ in range(40)}
    assert served == STANDBYS
