"""What a statement takes along to Highwater in front of it: in no round trip of its own, and seen by nobody else."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from django.db import Error, connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from django_highwater import consistency, current_token, use_token
from django_highwater.seeing import recorded
from test_connections import ask, in_project, now
from watching import patient, said

Lag = Callable[..., Any]


class TestSettingsInFront:
    """What a statement takes along to Highwater is seen by nobody else."""

    @pytest.fixture(autouse=True)
    def _is_known(self, site: None) -> None:
        # A connection has to be asked once what it leads to.
        with use_token(""):
            ask("SELECT 1")

    def test_the_cursor_stands_at_the_statements_own_result(self, site: None) -> None:
        with use_token(""), connection.cursor() as cursor:
            cursor.execute("SELECT %s AS a, '100%%'", [7])
            assert cursor.fetchall() == [(7, "100%")]
            assert [column[0] for column in cursor.description] == ["a", "?column?"]
            assert cursor.rowcount == 1
        with use_token(""), connection.cursor() as cursor:
            cursor.execute("SELECT '100%'")
            assert cursor.fetchall() == [("100%",)]
        with use_token(""), connection.cursor() as cursor:
            cursor.execute("INSERT INTO project_wish (thing) VALUES ('a'), ('b')")
            assert cursor.rowcount == 2

    @pytest.mark.skipif(os.environ.get("DRIVER") == "psycopg2", reason="it binds on the client")
    def test_where_the_server_binds_nothing_stands_there(
        self, lag: Lag, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its messages have room for one statement; so what is to be said is a round trip, and holds all the same."""
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", {"server_side_binding": True})
        with use_token(""):
            ask("SELECT 1")
        assert type(connection.cursor().cursor).__name__ == "ServerBindingCursor"
        with said(monkeypatch) as texts, use_token(""), connection.cursor() as cursor:
            cursor.execute("SELECT %s::int + 1", [1])
            assert cursor.fetchall() == [(2,)]
            assert cursor.cursor._query.query == b"SELECT $1::int + 1"
        assert texts == ["SET highwater.session = ''"]
        with lag(), override_settings(HIGHWATER={"CONSISTENCY": "session"}):
            client.post("/wish/", {"thing": "x"})
            with patient():
                assert Client().get("/wishes/").json() == []
            assert client.get("/wishes/").json() == ["x"]
            with use_token(""):
                in_project().Wish.objects.create(thing="y")
                token = current_token()
            with use_token(token):
                assert in_project().Wish.objects.filter(thing__in=["x", "y"]).count() == 2
        connection.close()

    def test_nor_does_anybody_see_them_in_logs_or_wrappers(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []

        def watch(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
            seen.append(sql)
            return execute(sql, params, many, context)

        with said(monkeypatch) as texts, use_token(""), connection.execute_wrapper(watch):
            ask("SELECT 2")
        with said(monkeypatch) as more, use_token(""), CaptureQueriesContext(connection) as queries:
            ask("SELECT 3")
        assert (seen, len(texts), len(more)) == (["SELECT 2"], 1, 1)
        assert [query["sql"] for query in queries] == ["SELECT 3"]

    @pytest.mark.parametrize(
        ("statement", "values"),
        [
            ("SELECT %s", ["a\0"]),
            ("SELECT %s", ["\ud800"]),
            ("SELECT %s, %s", [1]),
            ("/* highwater.consistency='nonsense' */ SELECT 1", None),
            ("SELECT 1 /* highwater.consistency='nonsense' */", None),
            ("SELECT 1; SET highwater.max_lag = '1s'", None),
            ("SELECT 1/0", None),
        ],
    )
    def test_a_position_outlives_a_statement_that_fails(self, lag: Lag, statement: str, values: Any) -> None:
        """Also one that has never reached Highwater: what that goes on reporting is another session's."""
        with use_token(""):
            in_project().Wish.objects.create(thing="a")
            before = current_token()
        with lag():
            with use_token(""):
                in_project().Wish.objects.create(thing="b")
                written = current_token()
            with use_token(before):
                in_project().Wish.objects.count()
            with use_token(written):
                with pytest.raises((Error, TypeError, ValueError, IndexError)), connection.cursor() as cursor:
                    cursor.execute(statement, values)
                assert in_project().Wish.objects.count() == 2
                later = current_token()
            with use_token(later):
                assert in_project().Wish.objects.count() == 2

    def test_a_warning_is_passed_on_that_comes_with_an_error(self, site: None) -> None:
        from django_highwater.signals import writes_lost

        heard = []

        def hear(**told: Any) -> None:
            heard.append(told["message"])

        lost = "the cluster has failed over"
        writes_lost.connect(hear)
        with use_token(""), pytest.raises(Error), connection.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE WARNING '{lost}'; RAISE EXCEPTION 'too late'; END $$")
        writes_lost.disconnect(hear)
        assert heard == [lost]

    @pytest.mark.parametrize("statement", ["-- nothing", "/* nothing */"])
    def test_there_is_nothing_in_front_of_nothing(self, site: None, statement: str) -> None:
        with use_token(""), connection.cursor() as cursor:
            try:
                cursor.execute(statement)
            except Error:
                # As psycopg2 answers it.
                return
            assert cursor.cursor.statusmessage != "SET"

    @pytest.mark.parametrize("pattern", ["/*route='a%%2Fb'*/ {}", "{} /*route='a%%2Fb'*/"])
    def test_beside_a_wrapper_that_adds_comments(self, site: None, lag: Lag, pattern: str) -> None:
        """As sqlcommenter's."""

        def comment(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
            return execute(pattern.format(sql), params, many, context)

        wishes = in_project().Wish.objects
        wishes.create(thing="x")
        with lag(), connection.execute_wrapper(comment), consistency("session"):
            with use_token(""), recorded() as statements:
                assert wishes.filter(thing="x").count() == 1
            assert [statement.is_on_primary for statement in statements] == [False]
            with use_token("") as session:
                wishes.create(thing="y")
                assert session.wrote
                assert wishes.filter(thing__in=["x", "y"]).count() == 2

    def test_an_error_tells_all_anew(self, lag: Lag) -> None:
        """Nobody knows which of the settings have been heard."""
        with use_token(""):
            in_project().Wish.objects.create(thing="x")
            token = current_token()
        with lag(), use_token(token):
            with pytest.raises(Error):
                ask("SELECT 1/0")
            assert in_project().Wish.objects.count() == 1
            assert now()[1] == "session"
