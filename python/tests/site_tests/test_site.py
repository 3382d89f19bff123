"""Each kind of test case. Nothing in here knows of Highwater, but the last class."""

import urllib.request
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client, LiveServerTestCase, TestCase, TransactionTestCase, tag

from django_highwater import consistency
from django_highwater.testing import RoutesMixin
from project.models import Wish


class Cases:
    """The same for each kind; more than one test, to see whether each begins with empty tables."""

    client: Client
    assertEqual: Any
    assertNumQueries: Any

    def test_what_was_posted_is_listed(self) -> None:
        self.client.post("/wish/", {"thing": "lightsaber"})
        self.assertEqual(self.client.get("/wishes/").json(), ["lightsaber"])

    def test_it_begins_empty(self) -> None:
        self.assertEqual(Wish.objects.count(), 0)
        Wish.objects.create(thing="x")
        self.assertEqual(Wish.objects.get().thing, "x")

    def test_one_logs_in(self) -> None:
        User.objects.create_user("ann", password="secret")
        self.client.post("/login/", {"name": "ann", "password": "secret"})
        self.assertEqual(self.client.get("/me/").json(), {"name": "ann"})

    def test_statements_are_counted_as_ever(self) -> None:
        with self.assertNumQueries(2):
            Wish.objects.create(thing="x")
            Wish.objects.get()

    def test_rollbacks(self) -> None:
        try:
            with transaction.atomic():
                Wish.objects.create(thing="x")
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        self.assertEqual(Wish.objects.count(), 0)


class InTestCase(Cases, TestCase):
    """All in one transaction."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Rows for all tests of the class."""
        cls.user = User.objects.create(username="bob")

    def test_its_data(self) -> None:
        self.assertEqual(User.objects.get(username="bob"), self.user)

    def test_on_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: Wish.objects.create(thing="x"))
        self.assertEqual(len(callbacks), 1)
        self.assertEqual(Wish.objects.count(), 1)


class InTransactionTestCase(Cases, TransactionTestCase):
    """Committed, and flushed behind each test."""


class FromFixtures:
    """Rows that are loaded before each test, or each class."""

    fixtures = ("wishes",)
    client: Client
    assertEqual: Any

    def test_they_are_read(self) -> None:
        self.assertEqual(Wish.objects.get().owner.username, "ann")
        self.assertEqual(self.client.get("/wishes/").json(), ["lightsaber"])

    def test_what_comes_after_them_gets_numbers_of_its_own(self) -> None:
        Wish.objects.create(thing="x")
        self.assertEqual(self.client.get("/wishes/").json(), ["lightsaber", "x"])


class FromFixturesInTestCase(FromFixtures, TestCase):
    """Loaded within the transaction of all."""


class FromFixturesInTransactionTestCase(FromFixtures, TransactionTestCase):
    """Committed."""


class InLiveServer(LiveServerTestCase):
    """A server in another thread, with connections of its own."""

    def test_it_sees_what_the_test_wrote(self) -> None:
        Wish.objects.create(thing="x")
        with urllib.request.urlopen(f"{self.live_server_url}/wishes/") as response:
            self.assertEqual(response.read(), b'["x"]')


@tag("replicas")
class Replicas(RoutesMixin, TransactionTestCase):
    """They are on."""

    def test_reads_run_there(self) -> None:
        Wish.objects.create(thing="x")
        with consistency("eventual"), self.assertRoutes(replica=2):
            Wish.objects.count()
            connection.close()
            Wish.objects.count()
