"""Engines that other packages bring: those that count what runs, and those that choose a schema before it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.test import Client, override_settings

from django_highwater import current_token, identify, use_token
from django_highwater.seeing import recorded
from harness.lab import Lab
from harness.waiting import until
from watching import patient, until_read_on_standby

Lag = Callable[..., Any]
TENANTS = ("tenant_a", "tenant_b")


@pytest.fixture
def engine(site: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Gives the site's one alias another engine."""

    def change(name: str) -> None:
        connections["default"].close()
        del connections["default"]
        monkeypatch.setitem(connections.settings["default"], "ENGINE", name)

    yield change
    change("django.db.backends.postgresql")


def wishes() -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects


class TestCounting:
    """Cursors of its own, of the driver's kind and of Django's."""

    @pytest.fixture(autouse=True)
    def _engine(self, engine: Callable[[str], None]) -> None:
        engine("project.counting")

    def test_it_counts_what_the_application_runs(self, site: None) -> None:
        """Nothing that the package says, whichever way it says it."""
        from project.counting.base import counts, texts

        with use_token(""):
            wishes().create(thing="x")
        token = "default:abc"
        for key in ("ann", "bob"):
            counts.clear()
            texts.clear()
            with use_token(token) as session:
                identify(key)
                wishes().count()
                wishes().bulk_create([wishes().model(thing="y")])
                assert session.wrote
                current_token()
            assert counts == {"cursors": 2, "django": 2, "execute": 2}
            assert not any("highwater" in text for text in texts)

    def test_each_session_is_its_own(self, client: Client, lag: Lag) -> None:
        with lag(), override_settings(HIGHWATER={"CONSISTENCY": "session"}):
            client.post("/wish/", {"thing": "x"})
            with patient():
                assert Client().get("/wishes/").json() == []
            assert client.get("/wishes/").json() == ["x"]

    def test_it_reads_from_replicas(self, client: Client) -> None:
        client.post("/wish/", {"thing": "x"})
        until_read_on_standby(lambda: client.get("/wishes/"))


@pytest.fixture
def tenants(lab: Lab, site: None) -> Iterator[None]:
    """A schema for each."""
    for schema in TENANTS:
        table = f"{schema}.project_wish"
        lab.primary.rows(f"CREATE SCHEMA {schema} AUTHORIZATION app")
        lab.primary.rows(f"CREATE TABLE {table} (LIKE public.project_wish INCLUDING ALL)")
        lab.primary.rows(f"ALTER TABLE {table} OWNER TO app")
    yield
    for schema in TENANTS:
        lab.primary.rows(f"DROP SCHEMA {schema} CASCADE")


class TestTenants:
    """SET search_path, before each statement or where the tenant has changed."""

    @pytest.fixture(autouse=True, params=[True, False], ids=["always", "on_change"])
    def _engine(self, engine: Callable[[str], None], tenants: None, request: pytest.FixtureRequest) -> None:
        engine("project.tenants")
        connection.is_set_each_time = request.param

    @staticmethod
    def _things(schema: str) -> tuple[list[str], str | None]:
        """What is on this tenant's list, and which server said so."""
        connection.choose(schema)
        with recorded() as statements:
            things = list(wishes().values_list("thing", flat=True))
        return things, statements[-1].server

    def test_each_server_looks_into_the_tenants_schema(self, lab: Lab) -> None:
        for schema in TENANTS:
            connection.choose(schema)
            wishes().create(thing=schema)
        lab.settle()
        seen = set()

        def have_all_answered() -> bool:
            for schema in TENANTS:
                things, server = self._things(schema)
                assert things == [schema]
                seen.add((schema, server))
            # Each connection has a standby of its choice.
            connection.close()
            return {(schema, standby.name) for schema in TENANTS for standby in lab.standbys} <= seen

        until("each standby to have answered for each tenant", have_all_answered)

    def test_each_session_is_its_own(self, lag: Lag) -> None:
        # What Highwater has not heard of is read on the primary.
        until("a standby to answer", lambda: self._things("tenant_a")[1] != "primary")
        with lag():
            with use_token(""):
                connection.choose("tenant_a")
                wishes().create(thing="x")
                token = current_token()
            with use_token(token):
                assert self._things("tenant_b")[0] == []
                assert self._things("tenant_a") == (["x"], "primary")

    def test_within_transactions_and_by_cursors_with_names(self, lab: Lab, lag: Lag) -> None:
        connection.choose("tenant_a")
        wishes().create(thing="x")
        with transaction.atomic():
            assert self._things("tenant_a")[0] == ["x"]
            connection.choose("tenant_b")
            wishes().create(thing="y")
            assert [wish.thing for wish in wishes().iterator()] == ["y"]
        assert [wish.thing for wish in wishes().iterator()] == ["y"]
        connection.choose("tenant_a")
        assert [wish.thing for wish in wishes().iterator()] == ["x"]

    def test_who_only_reads_has_not_written(self, client: Client) -> None:
        """SET runs on the primary, and is no reason to give anybody a cookie."""
        connection.choose("tenant_a")
        response = client.get("/wishes/")
        assert response.json() == []
        assert not response.cookies
        client.post("/wish/", {"thing": "x"})
        assert client.cookies["highwater"]

    def test_the_checks_know_it_by_what_it_is(self, site: None) -> None:
        """Its name says nothing of PostgreSQL."""
        with override_settings(ASGI_APPLICATION="project.asgi"):
            said = [message.msg for message in run_checks(tags=["highwater"]) if message.id == "highwater.W004"]
        assert any("'default'" in text for text in said)


@pytest.mark.parametrize(
    ("statement", "is_write"),
    [
        ("SET search_path = 'a', 'b'", False),
        ("set local work_mem = '1MB';", False),
        ("RESET search_path", False),
        ("SHOW search_path", False),
        ("SET search_path = 'public'; INSERT INTO project_wish (thing) VALUES ('x')", True),
        ("SELECT setval('project_wish_id_seq', 1000)", True),
    ],
)
def test_what_counts_as_a_write(site: None, statement: str, is_write: bool) -> None:
    with use_token("") as session, connection.cursor() as cursor:
        cursor.execute(statement)
        assert session.wrote == is_write
