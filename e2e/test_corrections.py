"""What runs again elsewhere, unseen, when a standby fails it; what never does; and how often at most."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import Connection, SqlError
from harness.lab import Lab, Server, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

EVENTUAL = {"highwater.consistency": "eventual"}
STANDBYS = {"standby1", "standby2"}

# Whatever a standby may say of a statement that the primary runs. `fails` raises it on standbys alone.
CORRECTED = ["25006", "0A000", "55000", "XX000", "58P01", "42P01", "42703", "42883", "3F000", "42704"]
CANCELLED = ["40001", "57P01", "57P02", "57P03", "57P04"]
# What the statement itself earned, or somebody asked for: no other server makes it better.
PASSED_ON = ["57014", "55P03", "22012", "23505", "42501", "42601", "53200", "53300", "54001", "57000", "P0001", "XX001"]

FAILS = """
SET ROLE app;
CREATE OR REPLACE FUNCTION fails(code text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'raised on a standby' USING ERRCODE = code;
    END IF;
    RETURN code;
END $$;
CREATE OR REPLACE FUNCTION log_position() RETURNS pg_lsn LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN pg_current_wal_lsn();
END $$;
CREATE OR REPLACE FUNCTION emit() RETURNS pg_lsn LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN pg_logical_emit_message(false, 'highwater', 'test');
END $$;
"""


@pytest.fixture
def failing(lab: Lab, start_proxy: StartProxy) -> Proxy:
    """A proxy that takes the functions for reads."""
    lab.primary.rows(FAILS)
    lab.settle()
    proxy = start_proxy()
    until("the proxy to know the functions", lambda: _is_read(proxy, "SELECT fails('x')"))
    return proxy


def _is_read(proxy: Proxy, sql: str) -> bool:
    return {"fact": "class", "value": "read"} in proxy.console(f"EXPLAIN shop {sql}")


def test_what_only_standbys_refuse_runs_elsewhere(failing: Proxy, connect: Connect) -> None:
    client = connect(failing, settings=EVENTUAL)
    for code in CORRECTED + CANCELLED:
        # The name of its own keeps what one refusal teaches from the next one.
        assert str(client.value(f"SELECT fails(%s) AS c{code}", code)) == code
        assert client.server() == "primary"
    assert failing.stat("retries") >= len(CANCELLED)


def test_the_route_says_in_detail_how_often_it_ran_in_vain(failing: Proxy, plain: Connect) -> None:
    client = plain(failing, settings={**EVENTUAL, "highwater.report": "detailed"})
    assert str(client.value("SELECT fails('40001') AS detailed")) == "40001"
    # Two standbys.
    assert str(client.value("SHOW highwater.last_route")).endswith(" retries=2")
    assert client.value("SELECT 1") == 1
    assert "retries" not in str(client.value("SHOW highwater.last_route"))


def test_what_the_statement_earned_is_passed_on(failing: Proxy, connect: Connect) -> None:
    client = connect(failing, settings=EVENTUAL)
    for code in PASSED_ON:
        with pytest.raises(SqlError, match="raised on a standby") as failed:
            client.value("SELECT fails(%s)", code)
        assert failed.value.sqlstate == code
    assert failing.stat("corrections") + failing.stat("retries") == 0
    assert client.value("SELECT 1") == 1
    assert client.server() in STANDBYS


@pytest.mark.parametrize("read", ["SELECT log_position()", "SELECT emit()"])
def test_what_only_a_primary_can_do_runs_there(failing: Proxy, plain: Connect, read: str) -> None:
    """Whatever this version of PostgreSQL calls it."""
    assert _is_read(failing, read)
    client = plain(failing, settings=EVENTUAL)
    client.run(read)
    assert client.server() == "primary"
    assert failing.stat("corrections") == 1


@pytest.mark.parametrize(
    ("make", "read", "drop"),
    [
        ("CREATE TABLE newest AS SELECT 7 AS v", "SELECT v FROM newest", "DROP TABLE newest"),
        ("ALTER TABLE bulk ADD v int", "SELECT 7 + count(v)::int FROM bulk WHERE id = -1", "ALTER TABLE bulk DROP v"),
        ("CREATE TYPE newest AS ENUM ('7')", "SELECT '7'::newest", "DROP TYPE newest"),
        ("CREATE SCHEMA newest; CREATE DOMAIN newest.d int", "SELECT 7::newest.d", "DROP SCHEMA newest CASCADE"),
    ],
    ids=["42P01", "42703", "42704", "3F000"],
)
def test_what_a_standby_does_not_have_yet_the_primary_has(
    lab: Lab, proxy: Proxy, plain: Connect, make: str, read: str, drop: str
) -> None:
    """DDL arrives with the same lag as all the rest; readers without demands meet it first."""
    client = plain(proxy, settings=EVENTUAL)
    client.run("SELECT 1")
    with paused(*lab.standbys):
        lab.primary.rows(f"SET ROLE app; {make}")
        try:
            assert int(client.value(read)) == 7
            assert client.server() == "primary"
        finally:
            lab.primary.rows(drop)


class UnderWay:
    """A long read on a standby, and what becomes of it."""

    def __init__(self, client: Connection, standbys: list[Server]) -> None:
        self.answer: int | None = None
        self.error: SqlError | None = None
        self._standbys = standbys
        self._thread = threading.Thread(target=self._run, args=(client,))
        self._thread.start()

    def _run(self, client: Connection) -> None:
        try:
            self.answer = client.value("SELECT /* under way */ count(*)::int FROM generate_series(1, 6000000)")
        except SqlError as error:
            self.error = error

    def backend(self, *, but: Server | None = None) -> tuple[Server, int]:
        """Where it runs, and the backend's process."""
        sql = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%/* under way */%' AND pid <> pg_backend_pid()"

        def found() -> tuple[Server, int] | None:
            places = [server for server in self._standbys if server is not but and server.is_up()]
            return next(((server, pid) for server in places for (pid,) in server.rows(sql)), None)

        return until("the read to run", found)

    def finish(self) -> None:
        """Wait for its end."""
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


def test_a_terminated_backend_is_not_the_clients_trouble(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy()
    read = UnderWay(plain(proxy, settings=EVENTUAL), lab.standbys)
    server, pid = read.backend()
    server.rows("SELECT pg_terminate_backend(%s)", pid)
    read.finish()
    assert (read.answer, read.error) == (6_000_000, None)
    assert proxy.stat("retries") == 1


def test_a_neighbours_crash_is_not_the_clients_trouble(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy()
    read = UnderWay(plain(proxy, settings=EVENTUAL), lab.standbys)
    server, _ = read.backend()
    server.crash()
    read.finish()
    assert (read.answer, read.error) == (6_000_000, None)
    assert proxy.stat("retries") == 1


def test_what_somebody_cancelled_stays_cancelled(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    """An administrator who stops a runaway report does not want it back on the next server."""
    proxy = start_proxy()
    read = UnderWay(plain(proxy, settings=EVENTUAL), lab.standbys)
    server, pid = read.backend()
    server.rows("SELECT pg_cancel_backend(%s)", pid)
    read.finish()
    assert read.error and read.error.sqlstate == "57014"
    assert proxy.stat("retries") == 0


def test_what_has_ended_two_servers_is_not_given_to_a_third(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    """A statement that crashes whoever runs it must not reach the primary by being run again and again."""
    proxy = start_proxy()
    client = plain(proxy, settings=EVENTUAL)
    read = UnderWay(client, lab.standbys)
    first, pid = read.backend()
    os.kill(pid, signal.SIGKILL)
    second, pid = read.backend(but=first)
    os.kill(pid, signal.SIGKILL)
    read.finish()
    assert read.answer is None
    assert read.error and read.error.sqlstate.startswith("08")
    assert proxy.stat("retries") == 1
    assert {first.name, second.name} == STANDBYS


@contextmanager
def conflict(lab: Lab, standby: Server) -> Iterator[None]:
    """Whoever reads `counter` on this standby is in the way of the log, and gives way at once."""
    with standby.with_setting("max_standby_streaming_delay", "0"):
        yield
        with lab.primary.connect() as direct, direct.transaction():
            direct.execute("LOCK TABLE counter IN ACCESS EXCLUSIVE MODE")


def test_what_was_shown_is_not_taken_back(lab: Lab, start_proxy: StartProxy, row: Row) -> None:
    """A conflict in the middle of a result: rows of another server's answer must not follow those of this one."""
    proxy = start_proxy(*lab.servers[:2])
    proxy.until_it_sees(lab.servers[:2])
    slow = f"""SELECT (SELECT count(*) FROM generate_series(1, 100000 + g)), repeat('x', 9000)
                 FROM counter, generate_series(1, 300) g WHERE id = {row.id}"""
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        client.execute("SET highwater.consistency = 'eventual'")
        with conflict(lab, lab["standby1"]):
            rows = client.cursor().stream(slow)
            next(rows)
        with pytest.raises(psycopg.Error) as failed:
            list(rows)
        assert failed.value.sqlstate == "40001"
        assert client.execute("SELECT 1").fetchone() == (1,)
    assert proxy.stat("retries") == 0


def test_a_transaction_that_has_read_is_not_repeated(failing: Proxy, plain: Connect) -> None:
    """What it has read, another server may not show again."""
    client = plain(failing, settings=EVENTUAL)
    client.run("BEGIN READ ONLY")
    client.run("SELECT 1")
    with pytest.raises(SqlError) as failed:
        client.value("SELECT fails('40001')")
    assert failed.value.sqlstate == "40001"
    client.run("ROLLBACK")
    assert failing.stat("retries") == 0


def test_storms_of_conflicts_are_not_fed(failing: Proxy, plain: Connect) -> None:
    """Reads that standbys always cancel run again for a while; then their clients are told, as PostgreSQL does."""
    client = plain(failing, settings=EVENTUAL)

    def is_told() -> bool:
        try:
            return client.value("SELECT fails('40001')") != "40001"
        except SqlError as error:
            assert error.sqlstate == "40001"
            return True

    assert not is_told()
    reads = next(count for count in range(1, 2000) if is_told())
    assert reads > 50
    assert failing.stat("retries_refused") == 1
    until("the storm to be over", lambda: not is_told())
