"""`transaction_reads = standby`: plain reads at the head of a transaction run on a standby, and nobody notices."""

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row

STANDBYS = {"standby1", "standby2"}
SESSION = PATIENT | {"highwater.consistency": "session"}


@pytest.fixture
def leading(start_proxy: StartProxy) -> Proxy:
    """A proxy that lets transactions read on standbys first."""
    return start_proxy(transaction_reads="standby")


def test_it_is_off_unless_asked_for(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=PATIENT)
    client.run("BEGIN")
    row.read(client)
    assert client.server() == "primary"
    client.run("ROLLBACK")
    client.run("SET highwater.transaction_reads = 'standby'")
    client.run("BEGIN")
    row.read(client)
    assert client.server() in STANDBYS
    client.run("ROLLBACK")


def test_a_transaction_moves_at_its_first_write(leading: Proxy, connect: Connect, row: Row) -> None:
    client = connect(leading, settings=PATIENT)
    moved = leading.stat("transactions_moved")
    client.run("BEGIN")
    for _ in range(3):
        assert row.read(client) == 0
        assert client.server() in STANDBYS
    row.write(client, 1)
    assert client.server() == "primary"
    assert row.read(client) == 1
    assert client.server() == "primary"
    client.run("COMMIT")
    assert row.read(client) == 1
    assert leading.stat("transactions_moved") == moved + 1


def test_a_transaction_that_only_reads_never_meets_the_primary(leading: Proxy, connect: Connect, row: Row) -> None:
    client = connect(leading, settings=PATIENT)
    for end in ("COMMIT", "ROLLBACK"):
        client.run("BEGIN")
        row.read(client)
        row.read(client)
        client.run(end)
        assert client.server() in STANDBYS
    assert leading.stat("transactions_moved") == 0


def test_what_was_written_before_is_read(lab: Lab, leading: Proxy, connect: Connect, row: Row) -> None:
    client = connect(leading, settings=SESSION | {"highwater.wait_budget": "20ms"})
    with paused(*lab.standbys):
        row.write(client, 1)
        client.run("BEGIN")
        assert row.read(client) == 1
        assert client.server() == "primary"
        client.run("COMMIT")


def test_strong_reads_see_what_others_write_meanwhile(lab: Lab, leading: Proxy, connect: Connect, row: Row) -> None:
    """The transaction cannot stay where its reads would be old."""
    client = connect(leading, settings={"highwater.wait_budget": "300ms"})
    client.run("BEGIN")
    assert row.read(client) == 0
    with paused(*lab.standbys):
        row.write(lab.primary, 1)
        assert row.read(client) == 1
        assert client.server() == "primary"
    client.run("COMMIT")


@pytest.mark.parametrize(
    "statement",
    ["SELECT now()", "SELECT CURRENT_DATE", "SELECT peek(1)", "SHOW work_mem", "DECLARE c CURSOR FOR SELECT 1",
     "SELECT v FROM counter WHERE id = 1 FOR SHARE", "LOCK TABLE counter IN ACCESS SHARE MODE", "SELECT bump(0)"],
)  # fmt: skip
def test_what_hangs_on_the_transaction_moves_it(leading: Proxy, plain: Connect, row: Row, statement: str) -> None:
    client = plain(leading, settings=PATIENT)
    client.run("BEGIN")
    row.read(client)
    assert client.server() in STANDBYS
    client.rows(statement)
    row.read(client)
    assert client.server() == "primary"
    client.run("ROLLBACK")


def test_other_isolations_stay_whole(lab: Lab, leading: Proxy, plain: Connect, row: Row) -> None:
    client = plain(leading, settings=PATIENT)
    for begin in ("BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE"):
        client.run(begin)
        row.read(client)
        assert client.server() == "primary", begin
        client.run("ROLLBACK")
    client.run("SET default_transaction_isolation = 'repeatable read'")
    client.run("BEGIN")
    row.read(client)
    assert client.server() == "primary"
    client.run("ROLLBACK")


def test_the_roles_own_isolation_counts(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    lab.primary.rows("ALTER ROLE app SET default_transaction_isolation = 'repeatable read'")
    try:
        lab.settle()
        client = plain(start_proxy(transaction_reads="standby"), settings=PATIENT)
        client.run("BEGIN")
        row.read(client)
        assert client.server() == "primary"
        client.run("ROLLBACK")
    finally:
        lab.primary.rows("ALTER ROLE app RESET default_transaction_isolation")


def test_a_standby_that_dies_is_left(lab: Lab, leading: Proxy, connect: Connect, row: Row) -> None:
    client = connect(leading, settings=SESSION)
    client.run("BEGIN")
    client.run("SET LOCAL work_mem = '7MB'")
    client.run("SAVEPOINT a")
    assert row.read(client) == 0
    with lab[client.server()].down():
        assert row.read(client) == 0
        assert client.server() == "primary"
        row.write(client, 1)
        assert client.value("SHOW work_mem") == "7MB"
        client.run("ROLLBACK TO a")
        assert row.read(client) == 0
        client.run("COMMIT")


def test_a_conflict_with_replay_is_not_the_clients_trouble(lab: Lab, leading: Proxy, row: Row) -> None:
    with psycopg.connect(**leading.parameters(), options="-c highwater.wait_budget=10s", autocommit=True) as client:
        client.execute("BEGIN")
        client.execute("SELECT v FROM counter WHERE id = %s", (row.id,))
        route = client.execute("SHOW highwater.last_route").fetchone()
        assert route
        standby = lab[str(route[0]).split()[0]]
        # It throws out everybody who idles in a transaction.
        standby.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        assert client.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (0,)
        client.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
        client.execute("COMMIT")
    assert row.read(lab.primary) == 1


def test_savepoints_undo_the_proxys_settings_too(proxy: Proxy, connect: Connect) -> None:
    client = connect(proxy)
    client.run("BEGIN")
    client.run("SAVEPOINT a")
    client.run("SET highwater.consistency = 'eventual'")
    client.run("ROLLBACK TO SAVEPOINT a")
    assert client.value("SHOW highwater.consistency") == "strong"
    client.run("SET LOCAL highwater.consistency = 'eventual'")
    client.run("RELEASE a")
    assert client.value("SHOW  highwater.consistency") == "eventual"
    client.run("COMMIT")
    assert client.value("SHOW highwater.consistency ") == "strong"
