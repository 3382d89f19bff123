"""What OpenTelemetry is told of statements."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import IntegrityError, connection, connections
from django.test import AsyncClient, Client
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

from django_highwater import consistency, seeing, use_token
from django_highwater.telemetry import connect

Spans = Callable[[], list[ReadableSpan]]


def wishes(using: str = "default") -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects.using(using)


@pytest.fixture(scope="module")
def _exported() -> InMemorySpanExporter:
    """OpenTelemetry as a project sets it up, which a process does once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(_exported: InMemorySpanExporter, site: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """All spans so far, in the order in which they ended; nobody listens yet."""
    monkeypatch.setattr(seeing, "_listeners", ())
    _exported.clear()
    yield lambda: list(_exported.get_finished_spans())


def run(sql: str, params: object = None) -> None:
    """Run a statement by Django's cursor."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)


class TestSpans:
    """One for each statement."""

    def test_what_it_says(self, spans: Spans) -> None:
        connect()
        before = time.time_ns()
        with trace.get_tracer("tests").start_as_current_span("a request"), use_token(""):
            wishes().create(thing="secret")
        after = time.time_ns()
        insert, request = spans()
        assert (insert.name, insert.kind, insert.status.status_code) == ("INSERT", SpanKind.CLIENT, StatusCode.UNSET)
        assert insert.parent is not None
        assert insert.parent.span_id == request.context.span_id
        assert insert.start_time is not None
        assert insert.end_time is not None
        assert before <= insert.start_time < insert.end_time <= after
        attributes = dict(insert.attributes or {})
        text = attributes.pop(db_attributes.DB_QUERY_TEXT)
        assert str(text).startswith('INSERT INTO "project_wish" ("owner_id", "thing") VALUES (%s, %s)')
        waited = attributes.pop("highwater.waited")
        assert isinstance(waited, float)
        assert attributes == {
            db_attributes.DB_SYSTEM_NAME: db_attributes.DbSystemNameValues.POSTGRESQL.value,
            db_attributes.DB_NAMESPACE: "shop",
            db_attributes.DB_QUERY_SUMMARY: "INSERT",
            server_attributes.SERVER_ADDRESS: "127.0.0.1",
            server_attributes.SERVER_PORT: int(connection.settings_dict["PORT"]),
            "highwater.server": "primary",
            "highwater.reason": "must_run_on_primary",
        }

    def test_the_level_that_was_asked_for(self, spans: Spans) -> None:
        connect()
        with consistency("eventual"):
            wishes().count()
        (span,) = spans()
        attributes = span.attributes or {}
        assert (attributes["highwater.level"], attributes["highwater.reason"]) == ("eventual", "any_standby")
        assert str(attributes["highwater.server"]).startswith("standby")

    def test_connecting_twice_makes_no_more_of_them(self, spans: Spans) -> None:
        connect()
        connect()
        wishes().count()
        assert [span.name for span in spans()] == ["SELECT"]

    def test_plain_postgresql(self, spans: Spans) -> None:
        connect()
        wishes("direct").count()
        (span,) = spans()
        assert span.name == "SELECT"
        assert not [name for name in span.attributes or {} if name.startswith("highwater.")]

    def test_it_begins_when_the_statement_began(self, spans: Spans) -> None:
        connect()
        run("SELECT pg_sleep(0.2)")
        (span,) = spans()
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0.2 <= (span.end_time - span.start_time) / 1e9 < 5

    def test_a_statement_that_fails(self, spans: Spans) -> None:
        connect()
        with pytest.raises(IntegrityError):
            run("INSERT INTO project_wish (id) VALUES (1)")
        # What the caller is dealing with is not this one's.
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            wishes().count()
        failed, succeeded = spans()
        assert failed.status.status_code == StatusCode.ERROR
        assert failed.status.description is None
        assert failed.attributes is not None
        assert failed.attributes[db_attributes.DB_RESPONSE_STATUS_CODE] == "23502"
        assert failed.attributes[error_attributes.ERROR_TYPE] == "23502"
        assert succeeded.status.status_code == StatusCode.UNSET
        assert error_attributes.ERROR_TYPE not in (succeeded.attributes or {})

    def test_requests_of_both_kinds(self, client: Client, spans: Spans) -> None:
        connect()
        client.post("/wish/", {"thing": "x"})
        async_to_sync(AsyncClient().get)("/wishes/async/")
        assert [span.name for span in spans()] == ["INSERT", "SELECT"]


class TestTexts:
    """Names are few, and texts have no values in them."""

    def check(self, spans: Spans, sql: str, text: str | None, name: str = "SELECT", params: object = None) -> None:
        connect()
        run(sql, params)
        *_, span = spans()
        assert (span.name, (span.attributes or {}).get(db_attributes.DB_QUERY_TEXT)) == (name, text)

    def test_parameters(self, spans: Spans) -> None:
        self.check(spans, "SELECT 7 WHERE %s LIKE '%%s%%'", "SELECT ? WHERE %s LIKE ?", params=["secret"])

    @pytest.mark.parametrize(
        ("sql", "text"),
        [
            ("SELECT 'it''s secret', 12.5, 1e5", "SELECT ?, ?, ?"),
            ("SELECT 'a' AS \"O'Brien\", 2 AS t2", 'SELECT ? AS "O\'Brien", ? AS t2'),
            ("/* isn't it */ SELECT 'secret' -- isn't it\n, 'secret'", "/* isn't it */ SELECT ? -- isn't it\n, ?"),
            ("SELECT $$secret 'thing'$$, $a$secret$a$", "SELECT ?, ?"),
            ("SELECT E'it\\'s', 'secret'", "SELECT E"),
        ],
    )
    def test_literals(self, spans: Spans, sql: str, text: str) -> None:
        self.check(spans, sql, text)

    def test_long_ones(self, spans: Spans) -> None:
        self.check(spans, f"SELECT '{'secret' * 1000}'", "SELECT ?")

    def test_names(self, spans: Spans) -> None:
        self.check(spans, "-- why\n( select 1)", "-- why\n( select ?)")
        self.check(spans, "SET statement_timeout = 1000", "SET statement_timeout = ?", name="SET")

    def test_a_drivers_own_object(self, spans: Spans) -> None:
        if not hasattr(connection.connection or connection, "pgconn"):
            connection.ensure_connection()
        if hasattr(connection.connection, "pgconn"):
            from psycopg import sql
        else:
            from psycopg2 import sql  # type: ignore[no-redef]
        connect()
        run(sql.SQL("SELECT {}").format(sql.Literal("secret")))  # type: ignore[arg-type]
        (span,) = spans()
        assert span.name == "postgresql"
        assert "secret" not in str(span.attributes)


class TestEvents:
    """For those whose driver makes spans."""

    def test_they_are_the_callers_spans(self, spans: Spans) -> None:
        connect()
        connect(spans=False)
        with trace.get_tracer("tests").start_as_current_span("a request"), consistency("eventual"):
            wishes().count()
        (request,) = spans()
        (event,) = request.events
        assert event.name == "highwater.statement"
        attributes = dict(event.attributes or {})
        assert isinstance(attributes.pop("highwater.waited"), float)
        assert str(attributes.pop("highwater.server")).startswith("standby")
        assert attributes == {
            db_attributes.DB_QUERY_SUMMARY: "SELECT",
            "highwater.reason": "any_standby",
            "highwater.level": "eventual",
        }


class TestNobodyListens:
    """What nobody records costs nothing."""

    @pytest.fixture(autouse=True)
    def _made(self, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
        """A statement that is noted is an error."""

        def note(*_: object, **__: object) -> None:
            pytest.fail("nobody wanted to know of it")

        monkeypatch.setattr("django_highwater.connections.Statement", note)

    def test_without_a_provider(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connect()
        for provider in (trace.ProxyTracerProvider(), trace.NoOpTracerProvider()):
            monkeypatch.setattr(trace, "get_tracer_provider", lambda provider=provider: provider)
            wishes().count()

    def test_events_without_a_span(self) -> None:
        connect(spans=False)
        wishes().count()

    def test_events_of_a_span_that_is_not_recorded(self) -> None:
        connect(spans=False)
        with TracerProvider(sampler=ALWAYS_OFF).get_tracer("tests").start_as_current_span("a request"):
            wishes().count()

    def test_somebody_does(self) -> None:
        """That it would be an error."""
        connect()
        with pytest.raises(pytest.fail.Exception, match="wanted to know"):
            wishes().count()
        connections.close_all()
