"""Each kind of test case, with the two aliases."""

from typing import Any

from django.db import connections, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django.test.testcases import DatabaseOperationForbidden

from django_highwater.testing import JoinedReplicasMixin
from project.models import Wish


class WithoutDatabases(SimpleTestCase):
    """It refuses both, and gives them back to those behind it."""

    def test_both_are_refused(self) -> None:
        for alias in ("default", "replica"):
            with self.assertRaises(DatabaseOperationForbidden):
                Wish.objects.using(alias).count()


class Cases:
    """The same for each kind; more than one test, to see whether each begins with empty tables."""

    databases = frozenset(["default", "replica"])
    client: Any
    assertEqual: Any
    assertNumQueries: Any

    def test_what_was_written_is_read_by_the_replica(self) -> None:
        Wish.objects.create(thing="x")
        self.assertEqual([wish.thing for wish in Wish.objects.using("replica").all()], ["x"])

    def test_what_a_request_wrote_as_well(self) -> None:
        self.client.post("/wish/", {"thing": "x"})
        self.assertEqual(Wish.objects.using("replica").get().thing, "x")

    def test_an_object_of_the_replica_is_saved(self) -> None:
        Wish.objects.create(thing="x")
        wish = Wish.objects.using("replica").get()
        self.assertEqual(wish._state.db, "replica")
        wish.thing = "y"
        wish.save()
        self.assertEqual(wish._state.db, "default")
        self.assertEqual(Wish.objects.using("replica").get().thing, "y")

    def test_statements_are_counted_as_ever(self) -> None:
        with self.assertNumQueries(1, using="replica"):
            Wish.objects.using("replica").count()


class Together(Cases):
    """Where the two are one connection."""

    def test_rollbacks(self) -> None:
        Wish.objects.create(thing="x")
        try:
            with transaction.atomic(), transaction.atomic(using="replica"):
                Wish.objects.create(thing="y")
                self.assertEqual(Wish.objects.using("replica").count(), 2)
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass
        self.assertEqual(Wish.objects.using("replica").count(), 1)


class InTestCase(JoinedReplicasMixin, Together, TestCase):
    """All in one transaction, of both."""

    @classmethod
    def setUpTestData(cls) -> None:
        """Begins within it."""
        assert not Wish.objects.using("replica").exists()


class InTransactionTestCase(Cases, TransactionTestCase):
    """What is committed is seen."""


class InJoinedTransactionTestCase(JoinedReplicasMixin, Together, TransactionTestCase):
    """And what is not."""


class WithOneOfThem(JoinedReplicasMixin, TestCase):
    """What a test does not name it may not use, and what it names it may."""

    def test_the_other_one_is_refused(self) -> None:
        self.assertEqual(Wish.objects.count(), 0)
        with self.assertRaises(DatabaseOperationForbidden):
            Wish.objects.using("replica").count()


class WithoutJoining(TestCase):
    """What it is for: two connections, of which none sees the other's transaction; joined when the class is over."""

    databases = frozenset(["default", "replica"])

    def test_what_was_written_is_not_read_by_the_replica(self) -> None:
        Wish.objects.create(thing="x")
        self.assertEqual(Wish.objects.using("replica").count(), 0)
        self.assertIsNot(connections["replica"].connection, connections["default"].connection)
