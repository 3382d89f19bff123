"""What connections are told, and that none keeps one session's position for another."""

import io
import os
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import Error, connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory, TestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_highwater import consistency, current_token, use_token
from django_highwater.seeing import recorded
from django_highwater.session import entered
from harness.proxy import Proxy
from watching import pooled, said, until_read_on_standby

Lag = Callable[..., Any]


def ask(sql: str) -> Any:
    """The value that a statement yields, by Django's cursor."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def now() -> tuple[str, str]:
    """Key and level of the connection, as Highwater tells them, asked past the package."""
    raw = connection.connection.cursor()
    answers = []
    for name in ("session", "consistency"):
        raw.execute(f"SHOW highwater.{name}")
        answers.append(raw.fetchone()[0])
    return answers[0], answers[1]


def in_project() -> Any:
    """The models."""
    from project import models

    return models


class TestTrips:
    """Nothing is said twice."""

    def test_a_session_is_told_once_for_all_its_statements(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        wishes = in_project().Wish.objects
        with said(monkeypatch) as texts:
            for _ in range(2):
                with use_token(""):
                    for _ in range(5):
                        wishes.count()
        assert texts == ["SET highwater.report = 'known'; SET highwater.session = ''"]

    def test_nothing_else_is_said_before_it_is_known_who_listens(
        self, site: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pooler would keep it on connections that strangers share, and pass on nothing that Highwater reports."""
        from django_highwater import driver, identify

        connection.close()
        for kind in (driver.Psycopg, driver.Psycopg2):
            monkeypatch.setattr(kind, "parameter", lambda _self, _name: None)
        with said(monkeypatch) as texts, use_token("default:abc"), consistency("eventual"):
            identify("ann")
            assert ask("SELECT 1") == 1
            assert ask("SELECT 2") == 2
        assert texts == ["SET highwater.report = 'known'; SET highwater.session = ''"]
        connection.close()

    def test_nothing_is_said_where_there_is_no_session(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        with said(monkeypatch) as texts:
            in_project().Wish.objects.create(thing="x")
            assert in_project().Wish.objects.count() == 1
        assert texts == []

    def test_a_read_more_is_no_round_trip_more(
        self, client: Client, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Statements as the proxy counts them, and what is said besides."""
        client.post("/wish/", {"thing": "x"})

        def run(reads: int) -> tuple[int, int]:
            before = _routed(proxy)
            with said(monkeypatch) as texts, use_token(current_token()):
                for _ in range(reads):
                    in_project().Wish.objects.count()
            return _routed(proxy) - before, len(texts)

        assert run(1) == (1, 0)
        assert run(50) == (50, 0)

    @pytest.mark.skipif(os.environ.get("DRIVER") == "psycopg2", reason="it cannot be asked what it sends")
    def test_a_request_is_as_many_messages_as_statements(self, site: None) -> None:
        def sent(reads: int) -> list[str]:
            with tempfile.TemporaryFile("w+") as trace:
                connection.connection.pgconn.trace(trace.fileno())
                with use_token("default:abc"), consistency("eventual"):
                    for _ in range(reads):
                        in_project().Wish.objects.count()
                connection.connection.pgconn.untrace()
                trace.seek(0)
                return [line for line in trace if "\tF\t" in line]

        ask("SELECT 1")
        sent(1)
        assert len(sent(1)) == 1
        (first, *others) = sent(5)
        assert "SET highwater.session = ''; SET highwater.token = 'abc'; SELECT COUNT(*)" in first
        assert len(others) == 4
        assert not any("highwater" in line for line in others)

    def test_queries_are_counted_as_before(self, site: None) -> None:
        with CaptureQueriesContext(connection) as queries, use_token("default:abc"):
            in_project().Wish.objects.count()
            with consistency("eventual"):
                in_project().Wish.objects.count()
        assert [query["sql"] for query in queries] == ['SELECT COUNT(*) AS "__count" FROM "project_wish"'] * 2


def _routed(proxy: Proxy) -> int:
    """How many statements the proxy has sent to servers."""
    return sum(int(row["count"]) for row in proxy.console("SHOW ROUTES"))


class TestSessionsOnOneConnection:
    """One after the other, and in turns."""

    def test_the_next_one_does_not_inherit_a_position(self, lab: Any, lag: Lag) -> None:
        """Whoever wrote must wait for replicas. Whoever comes next on its connection need not."""
        with lag():
            with use_token("") as ann:
                in_project().Wish.objects.create(thing="x")
            with use_token(""), consistency("session"), recorded() as statements:
                in_project().Wish.objects.count()
            assert [statement.is_on_primary for statement in statements] == [False], ann.text()

    def test_interleaved_requests_do_not_share_positions(self, lag: Lag) -> None:
        """Asynchronous code outside Django's handler runs its statements on one thread and connection."""

        async def story() -> list[tuple[bool, int]]:
            wishes = in_project().Wish.objects
            seen = []
            with use_token(""):
                await wishes.acreate(thing="x")
                written = await sync_to_async(current_token)()
            import asyncio

            async def read(token: str) -> None:
                with use_token(token), consistency("session"):
                    for _ in range(5):
                        with recorded() as statements:
                            count = await wishes.acount()
                        seen.append((statements[0].is_on_primary, count))
                        await asyncio.sleep(0)

            await asyncio.gather(read(written), read(""))
            return seen

        with lag():
            seen = async_to_sync(story)()
        assert sorted(seen) == [(False, 0)] * 5 + [(True, 1)] * 5
        assert len(set(seen[:4])) == 2, "in turns"

    def test_levels_do_not_stay(self, site: None) -> None:
        with consistency("eventual"):
            assert ask("SELECT 1") == 1
            assert now()[1] == "eventual"
        assert ask("SELECT 1") == 1
        assert now()[1] == "strong"

    def test_keys_do_not_stay(self, site: None) -> None:
        from django_highwater import identify

        with use_token(""):
            identify("ann")
            ask("SELECT 1")
            assert now()[0] == "ann"
            identify("it's bob")
            ask("SELECT 1")
            assert len(now()[0]) == 64
            # Somebody, if only the first.
            identify(0)
            ask("SELECT 1")
            assert now()[0] == "0"
        ask("SELECT 1")
        assert now()[0] == ""

    def test_what_is_set_by_hand_is_left_alone(self, site: None) -> None:
        ask("SELECT 1")
        with connection.cursor() as cursor:
            cursor.execute("SET highwater.consistency = 'eventual'")
        ask("SELECT 1")
        assert now()[1] == "eventual"

    @pytest.mark.parametrize("statement", ["RESET ALL", " discard all"])
    def test_what_was_reset_is_told_anew(self, lag: Lag, statement: str) -> None:
        """And what was written before is not forgotten."""
        with lag(), override_settings(HIGHWATER={"CONSISTENCY": "eventual"}):
            with use_token(""):
                in_project().Wish.objects.create(thing="x")
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                assert now() == ("", "strong")
                with consistency("eventual"):
                    ask("SELECT 1")
                    assert now()[1] == "eventual"
                in_project().Wish.objects.create(thing="y")
                token = current_token()
            with use_token(token):
                assert in_project().Wish.objects.count() == 2

    def test_a_lost_connection_is_told_anew(self, site: None) -> None:
        with consistency("eventual"):
            ask("SELECT 1")
            connection.close()
            ask("SELECT 1")
            assert now()[1] == "eventual"

    def test_the_wrapper_is_installed_once(self, site: None) -> None:
        for _ in range(3):
            ask("SELECT 1")
            connection.close()
        names = [type(wrapper).__name__ for wrapper in connection.execute_wrappers]
        assert names == ["Carrier"]


class TestTransactions:
    """Settings inside follow PostgreSQL's rules, which undo some."""

    def test_a_level_within_a_transaction_ends_with_it(self, site: None) -> None:
        with transaction.atomic():
            ask("SELECT 1")
            with consistency("eventual"):
                ask("SELECT 1")
                assert now()[1] == "eventual"
            ask("SELECT 1")
            assert now()[1] == "strong"
        ask("SELECT 1")
        assert now()[1] == "strong"

    def test_a_level_around_its_beginning_does_not_outlive_its_block(self, site: None) -> None:
        with transaction.atomic():
            with consistency("eventual"):
                ask("SELECT 1")
            ask("SELECT 1")
            assert now()[1] == "strong"

    def test_savepoints_undo(self, site: None) -> None:
        with transaction.atomic():
            ask("SELECT 1")
            with consistency("eventual"):
                with pytest.raises(Error), transaction.atomic():
                    with consistency("session"):
                        ask("SELECT 1")
                    ask("SELECT 1/0")
                ask("SELECT 1")
                assert now()[1] == "eventual"

    def test_rollbacks_undo(self, site: None) -> None:
        with consistency("eventual"), pytest.raises(Error), transaction.atomic():
            with consistency("session"):
                ask("SELECT 1")
            ask("SELECT 1/0")
        ask("SELECT 1")
        assert now()[1] == "strong"

    def test_a_failed_transaction_is_said_nothing(self, site: None) -> None:
        with pytest.raises(Error, match="division"), transaction.atomic():
            try:
                ask("SELECT 1/0")
            finally:
                with consistency("eventual"), pytest.raises(Error, match="aborted|transaction"):
                    ask("SELECT 1")

    def test_the_position_of_a_commit_is_part_of_the_token(self, lag: Lag) -> None:
        with lag():
            with use_token(""):
                with transaction.atomic():
                    in_project().Wish.objects.create(thing="x")
                token = current_token()
            connection.close()
            with use_token(token):
                assert in_project().Wish.objects.count() == 1

    def test_a_position_that_nobody_heard_is_not_made_up(self, lag: Lag) -> None:
        """The connection is closed before anybody could read what COMMIT had reported: reads are strong from then."""
        with lag(), override_settings(HIGHWATER={"CONSISTENCY": "eventual"}):
            with use_token("") as session:
                in_project().Wish.objects.create(thing="x")
                with transaction.atomic():
                    in_project().Wish.objects.create(thing="y")
                connection.close()
                assert in_project().Wish.objects.count() == 2
                assert session.has_lost()
                token = current_token()
            assert token == "default:."
            with use_token(""):
                assert in_project().Wish.objects.count() == 0
            with use_token(token):
                assert in_project().Wish.objects.count() == 2, "its bearer knows that much"

    def test_a_session_within_a_transaction_joins_it(self, lag: Lag) -> None:
        with lag():
            with use_token("") as outer:
                with transaction.atomic():
                    with use_token(""):
                        in_project().Wish.objects.create(thing="x")
                    assert current_token() == "", "not committed yet"
                token = current_token()
            assert outer.wrote
            assert token
            with use_token(token):
                assert in_project().Wish.objects.count() == 1


def test_what_the_drivers_own_cursor_copies_is_part_of_the_request(site: None, lag: Lag) -> None:
    """For somebody with a position, to whom it would be the past without a newer one."""
    from django_highwater import carrying, middleware
    from project.models import Wish

    def view(_request: Any) -> HttpResponse:
        assert Wish.objects.count() == 1
        raw = connection.connection.cursor()
        if hasattr(raw, "copy_expert"):
            raw.copy_expert("COPY project_wish (thing) FROM STDIN", io.StringIO("y\n"))
        else:
            with raw.copy("COPY project_wish (thing) FROM STDIN") as copy:
                copy.write_row(["y"])
        return HttpResponse()

    with lag():
        writing = Client().post("/wish/", {"thing": "x"})
        request = RequestFactory().get("/", headers={"Cookie": f"highwater={writing.cookies['highwater'].value}"})
        response = middleware.HighwaterMiddleware(view)(request)
        assert isinstance(response, HttpResponse)
        connection.close()
        again = RequestFactory().get("/", headers={"Cookie": f"highwater={response.cookies['highwater'].value}"})
        with entered(carrying.session_of(again)):
            assert Wish.objects.count() == 2


class TestSeveralConnections:
    """One session on several of them."""

    def test_each_is_told_what_the_others_saw(self, lag: Lag) -> None:
        async def story() -> int:
            wishes = in_project().Wish.objects

            def create_elsewhere() -> None:
                wishes.create(thing="x")
                connection.close()

            with use_token(""):
                await sync_to_async(create_elsewhere, thread_sensitive=False)()
                with consistency("session"):
                    count: int = await wishes.acount()
                return count

        with lag():
            assert async_to_sync(story)() == 1

    def test_tokens_that_nobody_can_compare_are_all_kept(self, site: None) -> None:
        from django_highwater.session import Session

        session = Session("default:a+default:b+other%3A:c")
        assert session.text() == "default:a+default:b+other%3A:c"
        session.advance("default", "d", frozenset("a"))
        assert session.text() == "default:b+default:d+other%3A:c"
        session.advance("default", "e", frozenset("bd"))
        assert session.tokens("default") == frozenset("e")

    @pytest.mark.parametrize("text", ["x", "d:", ":a", "d:a b", "d:a'", "+", "+".join(["d:a"] * 99)])
    def test_text_that_is_no_token_says_nothing(self, site: None, text: str) -> None:
        from django_highwater.session import Session

        assert Session(text).text() == ""


class TestPool:
    """The driver's pool gives a connection to whoever asks, with everything that was set on it."""

    @pytest.fixture(autouse=True)
    def _has_pool(self, site: None) -> None:
        pytest.importorskip("psycopg_pool")
        if not hasattr(connections["default"].Database, "AsyncConnection"):
            pytest.skip("psycopg2 has none")

    def test_whoever_is_next_is_told_so_without_a_round_trip(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        with pooled() as alias:
            trips = []
            for key in ("ann", "bob"):
                with said(monkeypatch) as texts, use_token(""):
                    from django_highwater import identify

                    identify(key)
                    with alias.cursor() as cursor:
                        cursor.execute("SELECT 1")
                    raw = alias.connection.cursor()
                    raw.execute("SHOW highwater.session")
                    assert raw.fetchone() == (key,)
                    raw.close()
                    alias.close()
                trips.append(len(texts))
            assert trips == [1, 0]

    def test_another_user_does_not_inherit_what_was_said(self, lag: Lag) -> None:
        with pooled() as pool, lag():
            with use_token(""), consistency("eventual"):
                in_project().Wish.objects.using("pooled").create(thing="x")
            pool.close()
            assert in_project().Wish.objects.using("pooled").count() == 1, "strong again, with no session at all"
            pool.close()
            with use_token(""), consistency("session"), recorded() as statements:
                in_project().Wish.objects.using("pooled").count()
            assert [statement.is_on_primary for statement in statements] == [False]


def test_what_is_written_past_highwater_is_read_all_the_same(lag: Lag) -> None:
    """By an alias that leads to the primary itself: no position includes that, so reads are strong from then on."""
    with lag(), use_token("") as session:
        in_project().Wish.objects.create(thing="x")
        with use_token(current_token()) as inner:
            in_project().Wish.objects.using("direct").create(thing="y")
            assert in_project().Wish.objects.count() == 2
            assert inner.has_lost()
        assert session.has_lost()
        assert current_token() == "default:."


class TestPlainPostgreSQL:
    """The same site without Highwater."""

    def test_everything_works_and_nothing_is_said_twice(self, site: None, monkeypatch: pytest.MonkeyPatch) -> None:
        wishes = in_project().Wish.objects.using("direct")
        with said(monkeypatch) as texts, use_token("") as session, consistency("strong"):
            wishes.create(thing="x")
            with transaction.atomic(using="direct"), consistency("eventual"):
                assert wishes.count() == 1
            assert wishes.count() == 1
        assert len(texts) == 1
        assert session.text() == ""

    def test_views_set_no_cookie(self, site: None) -> None:
        class Direct:
            def db_for_read(self, model: Any, **_hints: Any) -> str:
                return "direct"

            db_for_write = db_for_read

        with override_settings(DATABASE_ROUTERS=[Direct()]):
            response = Client().post("/wish/", {"thing": "x"})
            assert not response.cookies
            assert Client().get("/wishes/").json() == ["x"]


class TestInTestCase(TestCase):
    """Django's TestCase: one transaction around everything."""

    databases = frozenset(["default"])

    @pytest.fixture(autouse=True)
    def _site(self, site: None) -> None:
        """As for the others."""

    def test_requests_and_levels(self) -> None:
        in_project().Wish.objects.create(thing="x")
        assert self.client.post("/wish/", {"thing": "y"}, follow=True).json() == ["x", "y"]
        with consistency("eventual"), self.assertNumQueries(1):
            assert in_project().Wish.objects.count() == 2


def test_offloading_goes_on_after_a_write(client: Client, site: None) -> None:
    client.post("/wish/", {"thing": "x"})
    until_read_on_standby(lambda: client.get("/wishes/"))
