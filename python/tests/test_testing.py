"""The helpers for projects' tests."""

from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client, SimpleTestCase, TestCase
from django.test.testcases import DatabaseOperationForbidden

from django_highwater import consistency, use_token
from django_highwater.testing import RoutesMixin, StaleRead, assert_routes, joined_replicas, simulated_lag, strict


def wishes(using: str = "default") -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects.using(using)


class TestRoutes:
    """Where statements ran."""

    def test_it_counts(self, site: None) -> None:
        with assert_routes(primary=1, replica=2):
            wishes().create(thing="x")
            with consistency("eventual"):
                wishes().count()
                wishes().count()
        with assert_routes(primary=1), transaction.atomic():
            wishes().count()

    def test_it_says_what_ran_where(self, site: None) -> None:
        with (
            pytest.raises(AssertionError, match='must_run_on_primary: INSERT INTO "project_wish"'),
            assert_routes(primary=0),
        ):
            wishes().create(thing="x")

    def test_plain_postgresql_has_no_routes(self, site: None) -> None:
        with pytest.raises(AssertionError, match="no Highwater"), assert_routes():
            wishes("direct").count()


class TestStrict:
    """Reads that would be stale."""

    def test_what_may_be_late_is_an_error(self, site: None) -> None:
        with strict():
            wishes().create(thing="x")
            assert wishes().count() == 1
            with consistency("eventual"), pytest.raises(StaleRead, match="project_wish was written"):
                wishes().count()

    def test_other_tables_may_be_late(self, site: None) -> None:
        from project.models import Message

        with strict():
            wishes().create(thing="x")
            with consistency("eventual"):
                assert Message.objects.count() == 0

    def test_who_wrote_reads_it_at_session(self, site: None) -> None:
        with strict(), consistency("session"):
            with use_token(""):
                wishes().create(thing="x")
                assert wishes().count() == 1
            with use_token(""), pytest.raises(StaleRead):
                wishes().count()

    def test_requests(self, client: Client) -> None:
        with strict():
            assert client.post("/wish/", {"thing": "x"}, follow=True).json() == ["x"]

    def test_plain_postgresql(self, site: None) -> None:
        with strict():
            wishes("direct").create(thing="x")
            with consistency("eventual"), pytest.raises(StaleRead):
                wishes("direct").count()


class TestStrictInTestCase(RoutesMixin, TestCase):
    """Where everything is one transaction, and nothing would be late by itself."""

    databases = frozenset(["default"])

    @pytest.fixture(autouse=True)
    def _site(self, site: None) -> None:
        """As for the others."""

    def test_it_is_an_error_all_the_same(self) -> None:
        with strict():
            wishes().create(thing="x")
            with consistency("eventual"), self.assertRaises(StaleRead):
                wishes().count()
        with self.assertRoutes(primary=1, replica=0):
            wishes().count()


@pytest.mark.parametrize("using", ["default", "direct"])
class TestSimulatedLag:
    """Through Highwater, and with nothing but PostgreSQL."""

    def test_reads_that_may_be_late_are(self, site: None, using: str) -> None:
        wishes(using).create(thing="x")
        with simulated_lag(using=using):
            wishes(using).create(thing="y")
            assert wishes(using).count() == 2
            with consistency("eventual"):
                assert wishes(using).count() == 1
                assert [wish.thing for wish in wishes(using).all()] == ["x"]
            with consistency("strong"):
                assert wishes(using).count() == 2
        with consistency("strong"):
            assert wishes(using).count() == 2

    def test_who_wrote_sees_it(self, site: None, using: str) -> None:
        with simulated_lag(using=using), consistency("session"):
            with use_token(""):
                wishes(using).create(thing="x")
                assert wishes(using).count() == 1
            with use_token(""):
                assert wishes(using).count() == 0

    def test_transactions_are_left_alone(self, site: None, using: str) -> None:
        with simulated_lag(using=using):
            wishes(using).create(thing="x")
            with consistency("eventual"), transaction.atomic(using=using):
                assert wishes(using).count() == 1


def test_who_is_refused_both_aliases_leaves_them_as_they_were(site: None) -> None:
    """Django puts back what it has replaced, one alias after the other."""
    from project.models import Wish

    class WithoutDatabases(SimpleTestCase):
        pass

    connections.settings["replica"] = {**connections.settings["default"], "TEST": {"MIRROR": "default"}}
    apart = connections["replica"]
    try:
        with joined_replicas():
            for _ in range(2):
                WithoutDatabases.setUpClass()
                with pytest.raises(DatabaseOperationForbidden):
                    Wish.objects.using("replica").count()
                WithoutDatabases.doClassCleanups()
                assert Wish.objects.using("replica").count() == 0
        assert connections["replica"] is apart
    finally:
        apart.close()
        del connections["replica"], connections.settings["replica"]
