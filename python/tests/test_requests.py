"""Requests whose views do with their connection what few do: close it, give it back, go past its execute wrappers."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.test import Client, RequestFactory

from django_highwater import carrying, consistency, identify, middleware, use_token
from django_highwater.connections import connected
from django_highwater.seeing import recorded
from django_highwater.session import entered
from harness.waiting import until
from watching import pooled

Lag = Callable[..., Any]

COOKIE = "highwater"
HEADER = "Highwater-Token"


def respond(view: Callable[[HttpRequest], Any], cookie: str | None = None, **headers: str) -> HttpResponseBase:
    """What the middleware makes of this view's answer, on the connection that is there."""

    def viewed(request: HttpRequest) -> HttpResponseBase:
        found = view(request)
        return found if isinstance(found, HttpResponseBase) else HttpResponse()

    sent = {"Cookie": f"{COOKIE}={cookie}"} if cookie else {}
    response = middleware.HighwaterMiddleware(viewed)(RequestFactory().get("/", headers={**headers, **sent}))
    assert isinstance(response, HttpResponseBase)
    return response


def position(response: HttpResponseBase) -> str | None:
    """The cookie that it sets."""
    return response.cookies[COOKIE].value if COOKIE in response.cookies else None


def things(response: HttpResponseBase, before: str = "") -> list[str]:
    """What a browser sees that has got this response, on a connection of its own; `before`: the cookie that it had."""
    connection.close()
    request = RequestFactory().get("/", headers={"Cookie": f"{COOKIE}={position(response) or before}"})
    with entered(carrying.session_of(request)):
        return list(wishes().order_by("id").values_list("thing", flat=True))


def wishes(alias: str = "default") -> Any:
    """The table."""
    from project.models import Wish

    return Wish.objects.using(alias)


def setting(name: str) -> str:
    """What holds on the connection, asked past the package."""
    raw = connection.connection.cursor()
    raw.execute(f"SHOW highwater.{name}")
    return str(raw.fetchone()[0])


@pytest.fixture
def written(client: Client) -> str:
    """The cookie of somebody who has written "x"."""
    value: str = client.post("/wish/", {"thing": "x"}).cookies[COOKIE].value
    return value


@pytest.fixture
def add_wish(lab: Any, site: None) -> str:
    """The name of a function that writes."""
    lab.primary.rows(
        "CREATE OR REPLACE FUNCTION add_wish(thing text) RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER"
        " AS $$ INSERT INTO project_wish (thing) VALUES ($1) RETURNING 1 $$"
    )
    lab.settle()
    return "add_wish"


class TestOthersWrappers:
    """Middleware that measures or tags statements wraps the whole request, and opens the connection within."""

    def test_the_first_request_of_a_thread(self, written: str, lag: Lag) -> None:
        def measured(execute: Any, *rest: Any) -> Any:
            return execute(*rest)

        def view(_request: HttpRequest) -> None:
            with connection.execute_wrapper(measured):
                wishes().create(thing="y")

        connection.close()
        del connections["default"]
        with lag():
            first = respond(view, written)
            names = [type(wrapper).__name__ for wrapper in connections["default"].execute_wrappers]
            assert names == ["Carrier"]
            second = respond(view, position(first))
            assert things(second) == ["x", "y", "y"]


class TestClosedConnections:
    """To hold none during a slow call, say."""

    def test_who_only_read_gets_nothing(self, written: str) -> None:
        def view(_request: HttpRequest) -> None:
            wishes().count()
            connection.close()

        assert position(respond(view, written)) is None

    def test_who_wrote_sees_it(self, written: str, lag: Lag) -> None:
        def view(_request: HttpRequest) -> None:
            with transaction.atomic():
                wishes().create(thing="y")
            connection.close()

        with lag():
            assert things(respond(view, written), written) == ["x", "y"]

    def test_the_next_ones_position_is_not_taken_for_ones_own(self, site: None, lag: Lag) -> None:
        """The pool has given the connection to somebody who has not seen as much."""
        if not hasattr(connection.Database, "AsyncConnection"):
            pytest.skip("psycopg2 has no pool")
        taken, seen = threading.Event(), threading.Event()

        def other() -> None:
            with use_token(""), consistency("eventual"):
                wishes("pooled").count()
                taken.set()
                seen.wait(10)
            connections["pooled"].close()

        def view(_request: HttpRequest) -> None:
            with transaction.atomic(using="pooled"):
                wishes("pooled").create(thing="x")
            connections["pooled"].close()
            thread.start()
            assert taken.wait(10)

        with pooled(), lag():
            thread = threading.Thread(target=other)
            response = respond(view)
            seen.set()
            thread.join()
            assert things(response) == ["x"]


class TestOneAfterTheOther:
    """On a connection that is kept."""

    def test_a_position_that_two_have_reached_is_each_ones(self, site: None, lag: Lag) -> None:
        """Tokens are texts, and equal where two sessions have seen the same within a second."""
        for _ in range(5):
            before = wishes().count()
            respond(lambda _request: wishes().create(thing="x"))
            late = respond(lambda _request: wishes().create(thing="y"))
            connection.close()
            with lag():
                written = respond(lambda _request: wishes().create(thing="z"))
                seen = []
                brought = position(late)

                def view(_request: HttpRequest, seen: list[int] = seen) -> HttpResponse:
                    with consistency("primary"):
                        seen.append(wishes().count())
                    response = HttpResponse()
                    response["Vary"] = "Cookie"
                    return response

                renewed = respond(view, brought)
                assert position(written)
                assert seen == [before + 3]
                assert len(things(renewed)) == before + 3

    def test_what_a_job_has_committed_is_not_the_next_ones(self, site: None, lag: Lag) -> None:
        def job() -> str | None:
            with use_token(""), transaction.atomic():
                wishes().create(thing="x")
            driver = connected("default").driver
            return driver.parameter("highwater.token") if driver else None

        with lag():
            # Mostly it is pushed with the answer to COMMIT.
            committed = until("a commit's position to be told", job)
            with use_token("") as session, consistency("eventual"):
                assert wishes().count() == 0
                assert committed not in session.tokens("default")


class TestPastTheWrappers:
    """Methods of cursors that Django hands on to the driver."""

    def test_a_procedure_that_writes(self, written: str, add_wish: str, lag: Lag) -> None:
        def view(_request: HttpRequest) -> None:
            with connection.cursor() as cursor:
                cursor.callproc(add_wish, ["y"])

        with lag():
            assert things(respond(view, written), written) == ["x", "y"]

    @pytest.mark.parametrize("is_debugging", [False, True])
    def test_nothing_runs_for_the_last_visitor(
        self, add_wish: str, is_debugging: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections["default"], "force_debug_cursor", is_debugging)

        def ann(_request: HttpRequest) -> None:
            identify("ann")
            with consistency("eventual"):
                wishes().count()

        def procedure(cursor: Any) -> None:
            cursor.callproc(add_wish, ["y"])

        def copy(cursor: Any) -> None:
            statement = "COPY project_wish TO STDOUT"
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(statement, io.StringIO())
            else:
                with cursor.copy(statement) as rows:
                    list(rows)

        for run in (procedure, copy):
            with connection.cursor() as cursor:
                respond(ann)
                assert (setting("session"), setting("consistency")) == ("ann", "eventual")
                respond(lambda _request, run=run, cursor=cursor: run(cursor))
                assert (setting("session"), setting("consistency")) == ("", "strong")

    def test_a_write_by_the_drivers_cursor_behind_a_read_on_a_replica(self, written: str, lag: Lag) -> None:
        """Neither position is known then: where they ran tells them apart."""

        def view(_request: HttpRequest) -> None:
            with consistency("eventual"), recorded() as statements:
                wishes().count()
            assert not any(statement.is_on_primary for statement in statements)
            connection.connection.cursor().execute("INSERT INTO project_wish (thing) VALUES ('y')")

        with lag():
            assert things(respond(view, written), written) == ["x", "y"]

    def test_a_function_that_writes_in_a_transaction_that_began_by_reading(
        self, written: str, add_wish: str, lag: Lag, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Replicas were too late for it, so all of it is on the primary, and for that reason."""

        def view(_request: HttpRequest) -> None:
            with transaction.atomic():
                assert wishes().count() == 1
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT {add_wish}('y')")

        connection.close()
        connection.execute_wrappers.clear()
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        try:
            with lag():
                assert things(respond(view, written), written) == ["x", "y"]
        finally:
            connection.close()
            connection.execute_wrappers.clear()

    def test_an_export_is_no_write(self, site: None) -> None:
        def view(_request: HttpRequest) -> None:
            with connection.cursor() as cursor:
                if hasattr(cursor, "copy_expert"):
                    cursor.copy_expert("COPY project_wish TO STDOUT", io.StringIO())
                else:
                    list(cursor.stream("SELECT thing FROM project_wish"))

        assert position(respond(view)) is None

    def test_an_iterator_is_no_write(self, site: None) -> None:
        """Outside a transaction its cursor lives on the primary."""
        assert position(respond(lambda _request: list(wishes().iterator()))) is None


def test_what_is_written_past_highwater_goes_on(written: str, lag: Lag) -> None:
    """By an alias that leads to the primary itself, and also on a page for everybody."""
    with lag():
        response = respond(lambda _request: wishes("direct").create(thing="y"), written)
        assert things(response, written) == ["x", "y"]


class TestBothWays:
    """A page's script that sends a header of its own along with the browser's cookie."""

    def test_both_are_brought_up_to_date(self, written: str, lag: Lag) -> None:
        with lag():
            response = respond(lambda _request: wishes().create(thing="y"), written, **{HEADER: written})
            assert response[HEADER]
            assert things(response, written) == ["x", "y"]

    @pytest.mark.parametrize("other", ["", "forged"])
    def test_the_better_one_counts(self, client: Client, lag: Lag, other: str) -> None:
        with lag():
            good = client.post("/wish/", {"thing": "x"})[HEADER]
            seen: list[int] = []

            def view(_request: HttpRequest) -> None:
                seen.append(wishes().count())

            for cookie, header in ((good, other), (other, good)):
                with consistency("session"):
                    respond(view, cookie, **{HEADER: header})
            assert seen == [1, 1]


def test_files_are_left_to_the_web_server(site: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    response = respond(lambda _request: FileResponse((tmp_path / "file").open("rb")))
    assert isinstance(response, StreamingHttpResponse)
    assert getattr(response, "file_to_stream", None) is not None
    response.close()


@pytest.fixture(autouse=True)
def _kept(site: None) -> Iterator[None]:
    """The connection is there."""
    wishes().count()
    yield
