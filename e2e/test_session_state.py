"""What belongs to one client stays with it as long as it should, and never reaches the next one."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, SqlError
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

STANDBYS = {"standby1", "standby2"}

# Settings, and what asks for them: they follow their client to every server connection.
SETTINGS = [
    ("SET work_mem = '7MB'", "SHOW work_mem", "7MB"),
    ("SELECT set_config('work_mem', '7MB', false)", "SHOW work_mem", "7MB"),
    ("SET search_path = pg_catalog", "SELECT current_schema()", "pg_catalog"),
    ("SET TIME ZONE 'Asia/Tokyo'", "SHOW timezone", "Asia/Tokyo"),
]

# Statements that leave in a server connection what no other one has, and what asks for it.
PINS = [
    ("CREATE TEMP TABLE mine AS SELECT 7 AS v", "SELECT v FROM mine", 7),
    ("SELECT pg_advisory_lock(4711)", "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory'", 1),
    ("PREPARE mine AS SELECT 7", "EXECUTE mine", 7),
]


@pytest.mark.parametrize(("statement", "question", "answer"), SETTINGS, ids=[state[0][:20] for state in SETTINGS])
def test_settings_follow_their_client(
    start_proxy: StartProxy, connect: Connect, row: Row, statement: str, question: str, answer: object
) -> None:
    # One server connection for everybody makes every leak visible.
    proxy = start_proxy(pool_size=1, checkout_timeout="10s")
    client, stranger = connect(proxy, settings=PATIENT), connect(proxy, settings=PATIENT)
    client.run(statement)
    for _ in range(3):
        assert client.value(question) == answer
        assert stranger.value(question) != answer
        assert client.value("SELECT v FROM public.counter WHERE id = %s", row.id) == 0
        assert client.server() in STANDBYS
    assert not pins(proxy)


@pytest.mark.parametrize(("statement", "question", "answer"), PINS, ids=[state[0][:20] for state in PINS])
def test_state_stays_with_its_client_and_pins_it(
    start_proxy: StartProxy, connect: Connect, statement: str, question: str, answer: object
) -> None:
    # One server connection for everybody makes every leak visible.
    proxy = start_proxy(pool_size=1, checkout_timeout="10s")
    client = connect(proxy)
    client.run(statement)
    for _ in range(3):
        assert client.value(question) == answer
    assert pins(proxy)
    client.close()
    until("the pin to end", lambda: not pins(proxy))
    # The next one finds nothing of it, on whichever server connection.
    for _ in range(3):
        stranger = connect(proxy, settings={"highwater.consistency": "primary"})
        try:
            assert stranger.value(question) != answer
        except SqlError as error:
            assert error.sqlstate in ("42P01", "26000")  # noqa: PT017
        stranger.close()


def test_names_follow_their_applications(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    """What others see of a connection is who uses it; each client has been told its own name alone."""
    proxy = start_proxy(pool_size=1)
    question = "SELECT application_name FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()"
    clients = {name: plain(proxy, settings={"application_name": name}) for name in ("one", "two", "three")}
    for _ in range(2):
        for name, client in clients.items():
            client.run(f"/* {name} */ SELECT 1 FOR UPDATE")
            assert lab.primary.rows(question, f"/* {name} */%") == [(name,)]
            assert client.value("SHOW application_name") == name


def pins(proxy: Proxy) -> list[str]:
    """Why clients keep their server connections."""
    return [row["pin"] for row in proxy.console("SHOW CLIENTS") if row["pin"] not in ("", "None")]


def test_a_setting_that_is_rolled_back_is_gone(proxy: Proxy, connect: Connect) -> None:
    client = connect(proxy)
    before = client.value("SHOW work_mem")
    client.run("BEGIN")
    client.run("SET work_mem = '7MB'")
    assert client.value("SHOW work_mem") == "7MB"
    client.run("ROLLBACK")
    assert client.value("SHOW work_mem") == before


def test_a_local_setting_pins_nothing(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=PATIENT)
    client.run("BEGIN")
    client.run("SET LOCAL work_mem = '7MB'")
    assert client.value("SHOW work_mem") == "7MB"
    client.run("COMMIT")
    row.read(client)
    assert client.server() in STANDBYS


def test_reset_lets_a_client_go_back_to_standbys(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=PATIENT)
    client.run("CREATE TEMP TABLE mine (i int)")
    row.read(client)
    assert client.server() == "primary"
    client.run("DISCARD ALL")
    # Other texts: DISCARD ALL has dropped what the driver had prepared, here as on PostgreSQL itself.
    assert client.value("SELECT v + 0 FROM counter WHERE id = %s", row.id) == 0
    assert client.value("SHOW  highwater.last_route").split()[0] in STANDBYS


@pytest.mark.parametrize("reset", ["RESET ALL", "DISCARD ALL"])
@pytest.mark.parametrize("is_pinned", [False, True], ids=["as new", "pinned"])
def test_what_pools_send_sets_our_own_settings_back(
    proxy: Proxy, connect: Connect, reset: str, is_pinned: bool
) -> None:
    """To the start-up packet: the next one who gets the connection reads neither loosely nor as somebody else."""
    started = {"highwater.consistency": "strong", "highwater.max_lag": "7s", "highwater.session": "pool"}
    client = connect(proxy, settings=started)
    if is_pinned:
        client.run("CREATE TEMP TABLE mine (i int)")
    for name, value in {"consistency": "eventual", "session": "ann", "max_lag": "9s"}.items():
        client.run(f"SET highwater.{name} = '{value}'")
    client.run(reset)
    shown = [client.value(f"SHOW highwater.{name}") for name in ("consistency", "session", "max_lag")]
    assert shown == ["strong", "pool", "7s"]


@pytest.mark.parametrize("is_pinned", [False, True], ids=["as new", "pinned"])
def test_what_asyncpg_sends_sets_our_own_settings_back(proxy: Proxy, is_pinned: bool) -> None:
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        if is_pinned:
            client.execute("CREATE TEMP TABLE mine (i int)")
        client.execute("SET highwater.consistency = 'eventual'")
        client.execute("SET highwater.report = 'on'")
        client.execute("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL")
        assert client.execute("SHOW highwater.consistency").fetchone() == ("strong",)
        assert client.info.parameter_status("highwater.token") == "", "nothing more is pushed"


def test_what_was_reset_in_a_transaction_is_as_before_when_it_is_undone(proxy: Proxy, connect: Connect) -> None:
    client = connect(proxy)
    client.run("SET highwater.consistency = 'eventual'")
    client.run("BEGIN")
    client.run("RESET ALL")
    assert client.value("SHOW highwater.consistency") == "strong"
    client.run("ROLLBACK")
    assert client.value("SHOW highwater.consistency") == "eventual"


def test_what_was_seen_is_no_setting(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    """Whoever resets his connection still sees what he wrote."""
    client = connect(proxy, settings={"highwater.consistency": "session"})
    with paused(*lab.standbys):
        for value, reset in enumerate(("RESET ALL", "DISCARD ALL"), 1):
            row.write(client, value)
            client.run(reset)
            # Other texts, because DISCARD ALL has dropped what the driver had prepared.
            assert client.value(f"SELECT v + {value} FROM counter WHERE id = %s", row.id) == 2 * value


def test_startup_settings_hold_on_every_server(proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings={"work_mem": "7MB", "statement_timeout": "7777"})
    assert client.value("SHOW work_mem") == "7MB"
    assert client.value("SELECT current_setting('work_mem') FROM counter WHERE id = %s", row.id) == "7MB"
    assert client.value("SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'") == 7777
    stranger = connect(proxy)
    assert stranger.value("SHOW work_mem") != "7MB"


def test_prepared_statements_work_on_every_server(lab: Lab, proxy: Proxy, row: Row) -> None:
    with psycopg.connect(**proxy.parameters(), autocommit=True, prepare_threshold=0) as client:
        sql = "SELECT v FROM counter WHERE id = %s"
        for value in range(1, 6):
            client.execute("UPDATE counter SET v = %s WHERE id = %s", (value, row.id))
            assert client.execute(sql, (row.id,)).fetchone() == (value,)
            with paused(*lab.standbys):
                client.execute("UPDATE counter SET v = %s WHERE id = %s", (-value, row.id))
                assert client.execute(sql, (row.id,)).fetchone() == (-value,)
            lab.settle()


def test_many_prepared_statements_of_many_clients(start_proxy: StartProxy, row: Row) -> None:
    proxy = start_proxy(prepared_max=10, pool_size=2)
    clients = [psycopg.connect(**proxy.parameters(), autocommit=True, prepare_threshold=0) for _ in range(3)]
    for number in range(40):
        for client in clients:
            assert client.execute(f"SELECT {number} + v FROM counter WHERE id = %s", (row.id,)).fetchone() == (number,)
    for number in range(40):
        for client in clients:
            assert client.execute(f"SELECT {number} + v FROM counter WHERE id = %s", (row.id,)).fetchone() == (number,)
    for client in clients:
        client.close()


def test_a_held_cursor_stays_on_its_server(proxy: Proxy, connect: Connect) -> None:
    client = connect(proxy)
    client.run("DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 100)")
    for first in range(1, 100, 10):
        assert client.rows("FETCH 10 FROM c")[0][0] == first
    client.run("CLOSE c")


def test_notifications_reach_the_listener_and_carry_causality(lab: Lab, proxy: Proxy, row: Row) -> None:
    parameters = proxy.parameters()
    options = "-c highwater.consistency=session"
    with (
        psycopg.connect(**parameters, options=options, autocommit=True) as listener,
        psycopg.connect(**parameters, autocommit=True) as writer,
        paused(*lab.standbys),
    ):
        listener.execute(f'LISTEN "news{row.id}"')
        assert pins(proxy)
        with writer.transaction():
            writer.execute("UPDATE counter SET v = 1 WHERE id = %s", (row.id,))
            writer.execute("SELECT pg_notify(%s, 'it is 1')", (f"news{row.id}",))
        (heard,) = listener.notifies(timeout=10, stop_after=1)
        assert heard.payload == "it is 1"
        assert listener.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (1,)
        listener.execute("UNLISTEN *")
        assert listener.execute("SELECT v FROM counter WHERE id = %s", (row.id,)).fetchone() == (1,)


def test_notices_arrive_from_standbys_and_primary(proxy: Proxy, connect: Connect) -> None:
    client = connect(proxy, settings=PATIENT)
    assert client.value("SELECT say('from a standby')") == "from a standby"
    assert client.server() in STANDBYS
    client.run("DO $$ BEGIN RAISE WARNING 'from the primary'; END $$")
    assert client.server() == "primary"
    assert client.notices == ["00000 from a standby", "01000 from the primary"]


def test_two_clients_share_few_connections(start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(pool_size=1)
    clients = [connect(proxy) for _ in range(5)]
    for value in range(1, 4):
        for client in clients:
            row.write(client, value)
            assert row.read(client) == value


def test_a_full_pool_is_told_in_time(start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(pool_size=1, checkout_timeout="200ms")
    holder, client = connect(proxy), connect(proxy)
    holder.run("BEGIN")
    row.write(holder, 1)
    with pytest.raises(SqlError) as full:
        client.run(f"UPDATE counter SET v = 2 WHERE id = {row.id}")
    assert full.value.sqlstate == "53300"
    holder.run("COMMIT")
    row.write(client, 3)
    assert row.read(client) == 3


def test_logins_do_not_make_the_pool_grow(lab: Lab, start_proxy: StartProxy) -> None:
    """What a server says to clients with these start-up settings is asked on a connection of its own."""
    proxy = start_proxy(pool_size=1, auth="trust")
    target = proxy.parameters("shop@primary", "trusted")
    sql = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trusted'"
    with psycopg.connect(**target) as holder:
        holder.execute("SELECT 1")
        for value in range(1, 5):
            psycopg.connect(**target, options=f"-c extra_float_digits={value - 2}").close()
        until("only one connection to be left", lambda: lab.primary.value(sql) == 1)


def test_a_client_in_the_queue_gets_its_turn(start_proxy: StartProxy, connect: Connect, row: Row) -> None:
    proxy = start_proxy(pool_size=1, checkout_timeout="20s")
    holder, client = connect(proxy), connect(proxy)
    holder.run("BEGIN")
    row.write(holder, 1)
    with ThreadPoolExecutor() as pool:
        queued = pool.submit(row.write, client, 2)
        until("the write to queue", lambda: any(int(it["cl_waiting"]) for it in proxy.console("SHOW POOLS")))
        holder.run("COMMIT")
        queued.result()
    assert row.read(holder) == 2


def test_values_of_sequences_are_their_clients(start_proxy: StartProxy, connect: Connect) -> None:
    """`lastval` and `currval` tell what a sequence gave to this session, and never to another one."""
    proxy = start_proxy(pool_size=1)
    one, two = (connect(proxy, settings={"highwater.consistency": "primary"}) for _ in range(2))
    first = one.value("SELECT nextval('ticket')")
    for question in ("SELECT lastval()", "SELECT currval('ticket')"):
        with pytest.raises(SqlError) as unknown:
            two.rows(question)
        assert unknown.value.sqlstate == "55000"
    # Where somebody has asked, nobody's values are lost to others any more.
    assert two.value("SELECT nextval('ticket')") > first
    # With its next statement the connection is free again.
    assert two.value("SELECT 1") == 1
    mine = one.value("SELECT nextval('ticket')")
    assert one.value("SELECT lastval()") == mine
    assert one.value("SELECT currval('ticket')") == mine
    assert pins(proxy) == ["sequence_value"]
    assert one.value("SELECT 1") == 1
    assert not pins(proxy)
