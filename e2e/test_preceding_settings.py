"""Settings in front of a statement, in the same Query: as if they had been sent before it, and no round trip more."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from conftest import StartProxy
from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import Row

# The first is taken off without the grammar, the others are not.
SPELLINGS = ["SET highwater.session = 'ann'; ", "SET highwater.session = 'änn'; ", "set highwater.session to ann ;\n"]


@pytest.fixture
def client(proxy: Proxy) -> Iterator[psycopg.Connection]:
    """A connection that reports, and reads on standbys."""
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        client.execute(
            "SET highwater.report = 'on'; SET highwater.consistency = 'session'; SET highwater.wait_budget = '10s'"
        )
        yield client


def results(client: psycopg.Connection, text: str) -> list[tuple[str | None, list[tuple[object, ...]]]]:
    """Command tag and rows of each statement."""
    cursor, found = client.execute(text), []
    while True:
        found.append((cursor.statusmessage, cursor.fetchall() if cursor.description else []))
        if not cursor.nextset():
            return found


def shown(client: psycopg.Connection, name: str) -> object:
    """What a setting of ours is."""
    return results(client, f"SHOW highwater.{name}")[0][1][0][0]


@pytest.mark.parametrize("setting", SPELLINGS)
def test_the_server_gets_what_is_behind_them(client: psycopg.Connection, setting: str) -> None:
    text = "SELECT current_query()"
    assert results(client, setting + text) == [("SET", []), ("SELECT 1", [(text,)])]
    assert results(client, setting + "SELECT 7") == [("SET", []), ("SELECT 1", [(7,)])]
    route = client.pgconn.parameter_status(b"highwater.last_route")
    assert route is not None
    assert route.startswith(b"standby")
    assert shown(client, "session") in ("ann", "änn")


@pytest.mark.parametrize("setting", SPELLINGS)
@pytest.mark.parametrize("statement", ["SELECT nope", "SELECT 'ü', nope", "SELEC 1"])
def test_errors_name_the_place_in_the_whole_text(client: psycopg.Connection, setting: str, statement: str) -> None:
    with pytest.raises(errors.Error) as complaint:
        client.execute(setting + statement)
    wrong = "SELEC" if statement.startswith("SELEC ") else "nope"
    assert complaint.value.diag.statement_position == str((setting + statement).index(wrong) + 1)


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1" + " || 'x'" * 100, "SELECT " + "(SELECT " * 30 + "1" + ")" * 30, "SELECT '" + "+" * 5000 + "'"],
    ids=["long", "deep", "costly"],
)
def test_before_what_is_not_understood_they_are_heard(client: psycopg.Connection, statement: str) -> None:
    """And not given to a server, which would take them, and know nothing of what they mean."""
    assert [tag for tag, _ in results(client, SPELLINGS[0] + statement)] == ["SET", "SELECT 1"]
    assert shown(client, "session") == "ann"


@pytest.mark.parametrize("setting", SPELLINGS[1:])
def test_a_text_that_cannot_be_read_sets_nothing(client: psycopg.Connection, setting: str) -> None:
    with pytest.raises(errors.SyntaxError):
        client.execute(setting + "SELEC 1")
    assert shown(client, "session") == ""


def test_a_token_in_front_holds_for_the_statement(lab: Lab, proxy: Proxy, client: psycopg.Connection, row: Row) -> None:
    client.execute("UPDATE counter SET v = 7 WHERE id = %s", [row.id])
    token = client.pgconn.parameter_status(b"highwater.token")
    assert token
    with psycopg.connect(**proxy.parameters(), autocommit=True) as other, paused(*lab.standbys):
        other.execute("SET highwater.consistency = 'session'; SET highwater.wait_budget = '50ms'")
        text = f"SELECT v FROM counter WHERE id = {row.id}"
        seen = results(other, f"SET highwater.session = ''; SET highwater.token = '{token.decode()}'; {text}")
        assert [tag for tag, _ in seen] == ["SET", "SET", "SELECT 1"]
        assert seen[-1][1] == [(7,)]


@pytest.mark.parametrize("sets", ["client_encoding = 'SJIS'", "standard_conforming_strings = off"])
def test_before_what_cannot_be_read(client: psycopg.Connection, sets: str) -> None:
    """A character that ends in a backslash, or a backslash that may escape: it goes to the primary, its settings to us."""
    client.execute(f"SET {sets}")
    read = "SELECT 'ソ', 1" if "SJIS" in sets else "SELECT E'\\\\', 1"
    seen = results(client, SPELLINGS[0] + read)
    assert seen[:1] == [("SET", [])]
    assert seen[1][1][0][1] == 1
    assert shown(client, "session") == "ann"


def test_each_may_be_set_back(client: psycopg.Connection) -> None:
    text = "SET highwater.consistency = 'eventual'; SET highwater.consistency TO DEFAULT; SELECT 1"
    assert [tag for tag, _ in results(client, text)] == ["SET", "SET", "SELECT 1"]
    assert shown(client, "consistency") == "strong"


def test_a_bad_value_runs_nothing(client: psycopg.Connection, row: Row) -> None:
    statement = f"UPDATE counter SET v = 9 WHERE id = {row.id}"
    with pytest.raises(errors.InvalidParameterValue):
        client.execute(f"SET highwater.session = 'ann'; SET highwater.consistency = 'nonsense'; {statement}")
    with pytest.raises(errors.UndefinedObject):
        client.execute(f"SET highwater.nonsense = 'x'; {statement}")
    assert row.read_strongly(Asking(client)) == 0


class Asking:
    """A connection for `Row`."""

    def __init__(self, client: psycopg.Connection) -> None:
        self.client = client

    def rows(self, sql: str, *params: object) -> list[tuple[object, ...]]:
        """Run one statement and return its rows."""
        return self.client.execute(sql, params).fetchall()  # type: ignore[arg-type]


def test_what_the_proxy_answers_itself_it_answers_here_too(client: psycopg.Connection) -> None:
    for setting in SPELLINGS[:1]:
        seen = results(client, setting + "SELECT pg_backend_pid()")
        assert seen == [("SET", []), ("SELECT 1", [(client.info.backend_pid,)])]


def test_in_transactions(client: psycopg.Connection, row: Row) -> None:
    first = SPELLINGS[0]
    assert [tag for tag, _ in results(client, first + "BEGIN")] == ["SET", "BEGIN"]
    results(client, f"{first}UPDATE counter SET v = 3 WHERE id = {row.id}")
    assert [tag for tag, _ in results(client, first + "COMMIT")] == ["SET", "COMMIT"]
    assert row.read_strongly(Asking(client)) == 3
    client.execute("BEGIN")
    with pytest.raises(errors.DivisionByZero):
        client.execute(first + "SELECT 1/0")
    with pytest.raises(errors.InFailedSqlTransaction):
        client.execute(first + "SELECT 1")
    assert [tag for tag, _ in results(client, first + "ROLLBACK")] == ["SET", "ROLLBACK"]
    # Nothing of it has ever reached a server.
    client.execute("BEGIN")
    with pytest.raises(errors.InvalidParameterValue):
        client.execute("SET highwater.consistency = 'nonsense'; SELECT 1")
    assert client.execute("ROLLBACK").statusmessage == "ROLLBACK"
    assert row.read_strongly(Asking(client)) == 3


def test_several_statements_behind_them_are_one_transaction(client: psycopg.Connection, row: Row) -> None:
    with pytest.raises(errors.DivisionByZero):
        client.execute(f"{SPELLINGS[0]}UPDATE counter SET v = 5 WHERE id = {row.id}; SELECT 1/0")
    assert row.read_strongly(Asking(client)) == 0


@pytest.mark.parametrize("setting", SPELLINGS)
def test_between_statements_they_are_refused(client: psycopg.Connection, setting: str) -> None:
    with pytest.raises(errors.FeatureNotSupported, match="must come first"):
        client.execute(f"{setting}SELECT 1; {setting}SELECT 2")


def test_what_a_standby_has_refused_is_remembered_without_them(lab: Lab, start_proxy: StartProxy, row: Row) -> None:
    """Else each request would try it on a standby anew, for the settings in front are never the same."""
    proxy = start_proxy()
    with psycopg.connect(**proxy.parameters(), autocommit=True) as client:
        for number in range(3):
            text = f"SET highwater.session = 'user{number}'; SELECT sly_bump({row.id})"
            assert results(client, text)[-1][1] == [(number + 1,)]
    assert proxy.stat("corrections") == 1
