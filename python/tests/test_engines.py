"""Engines that are not Django's usual one: those that count what runs, that choose a schema before it, and for maps."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, connections, transaction
from django.test import Client, override_settings
from django.test.utils import isolate_apps

from django_highwater import consistency, current_token, identify, use_token
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

    def test_the_checks_know_it_by_what_it_is(self, site: None) -> None:
        """Its name says nothing of PostgreSQL."""
        with override_settings(ASGI_APPLICATION="project.asgi"):
            said = [message.msg for message in run_checks(tags=["highwater"]) if message.id == "highwater.W004"]
        assert any("'default'" in text for text in said)


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
    def _engine(self, engine: Callable[[str], None], tenants: None, request: pytest.FixtureRequest) -> Iterator[None]:
        with override_settings(TENANT_LIMIT_SET_CALLS=not request.param):
            engine("django_tenants.postgresql_backend")
            yield

    @staticmethod
    def _things(schema: str) -> tuple[list[str], str | None]:
        """What is on this tenant's list, and which server said so."""
        connection.set_schema(schema)
        with recorded() as statements:
            things = list(wishes().values_list("thing", flat=True))
        return things, statements[-1].server

    def test_each_server_looks_into_the_tenants_schema(self, lab: Lab) -> None:
        for schema in TENANTS:
            connection.set_schema(schema)
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
                connection.set_schema("tenant_a")
                wishes().create(thing="x")
                token = current_token()
            with use_token(token):
                assert self._things("tenant_b")[0] == []
                assert self._things("tenant_a") == (["x"], "primary")

    def test_within_transactions_and_by_cursors_with_names(self, lab: Lab, lag: Lag) -> None:
        connection.set_schema("tenant_a")
        wishes().create(thing="x")
        with transaction.atomic():
            assert self._things("tenant_a")[0] == ["x"]
            connection.set_schema("tenant_b")
            wishes().create(thing="y")
            assert [wish.thing for wish in wishes().iterator()] == ["y"]
        assert [wish.thing for wish in wishes().iterator()] == ["y"]
        connection.set_schema("tenant_a")
        assert [wish.thing for wish in wishes().iterator()] == ["x"]

    def test_who_only_reads_has_not_written(self, client: Client) -> None:
        """SET runs on the primary, and is no reason to give anybody a cookie."""
        connection.set_schema("tenant_a")
        response = client.get("/wishes/")
        assert response.json() == []
        assert not response.cookies
        client.post("/wish/", {"thing": "x"})
        assert client.cookies["highwater"]


@pytest.fixture(scope="class")
def _extension(_lab: Lab) -> Iterator[None]:
    """PostGIS, once for all: a server process that has used it does not find one that is made anew."""
    _lab.primary.rows("CREATE EXTENSION postgis")
    yield
    _lab.primary.rows("DROP EXTENSION postgis")


@pytest.fixture
def places(lab: Lab, _extension: None, engine: Callable[[str], None]) -> Iterator[Any]:
    """A model with points on a map."""
    engine("django.contrib.gis.db.backends.postgis")
    from django.contrib.gis.db import models

    with isolate_apps("project"):

        class Place(models.Model):
            name = models.CharField(max_length=100)
            point = models.PointField(geography=True)

            class Meta:
                app_label = "project"

    with connection.schema_editor() as editor:
        editor.create_model(Place)
    lab.settle()
    yield Place.objects
    with connection.schema_editor() as editor:
        editor.delete_model(Place)


def near(places: Any, kilometres: float) -> list[tuple[str, float]]:
    """What is not further than this from the cathedral of Cologne, nearest first, and how far in metres."""
    from django.contrib.gis.db.models.functions import Distance
    from django.contrib.gis.geos import Point
    from django.contrib.gis.measure import D

    cathedral = Point(6.9583, 50.9413, srid=4326)
    found = places.filter(point__dwithin=(cathedral, D(km=kilometres))).annotate(far=Distance("point", cathedral))
    return [(place.name, place.far.m) for place in found.order_by("far")]


class TestPostGIS:
    """Types and functions that no server has by itself. Django's own tests of it: `cargo xtask suites geodjango`."""

    @pytest.fixture(autouse=True)
    def _places(self, places: Any) -> None:
        from django.contrib.gis.geos import Point

        for name, x, y in (("Bonn", 7.0998, 50.7358), ("Paris", 2.3522, 48.8566), ("Deutz", 6.9747, 50.9407)):
            places.create(name=name, point=Point(x, y, srid=4326))
        self.places = places

    def test_what_it_asks_for_is_read_on_standbys(self, lab: Lab) -> None:
        lab.settle()

        def read() -> bool:
            with use_token(""), recorded() as statements:
                (deutz, far), (bonn, further) = near(self.places, 50)
                extent = self.places.aggregate(extent=self._extent())["extent"]
            assert (deutz, bonn) == ("Deutz", "Bonn")
            assert 1_000 < far < 1_300
            assert 24_000 < further < 26_000
            assert extent == pytest.approx((2.3522, 48.8566, 7.0998, 50.9407))
            return all(not statement.is_on_primary for statement in statements)

        # The functions are known when the database has been read once.
        until("all of it to be read on standbys", read)

    @staticmethod
    def _extent() -> Any:
        from django.contrib.gis.db.models import Extent, GeometryField
        from django.db.models.functions import Cast

        return Extent(Cast("point", GeometryField()))

    def test_each_session_is_its_own(self, lag: Lag) -> None:
        from django.contrib.gis.geos import Point

        with lag():
            with use_token(""):
                self.places.create(name="Kalk", point=Point(7.0, 50.94, srid=4326))
                token = current_token()
            with use_token(token):
                assert [name for name, _ in near(self.places, 5)] == ["Deutz", "Kalk"]
            with use_token("default:"), consistency("eventual"), patient():
                assert [name for name, _ in near(self.places, 5)] == ["Deutz"]


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
