"""What migrations have put there is there again, though each test empties all tables."""

from django.test import TransactionTestCase

from project.models import Message


class Serialized(TransactionTestCase):
    """More than one test, to see what the one before has left."""

    serialized_rollback = True

    def _begins_with_it(self) -> None:
        self.assertEqual([message.text for message in Message.objects.all()], ["welcome"])
        Message.objects.all().delete()

    def test_one(self) -> None:
        self._begins_with_it()

    def test_another(self) -> None:
        self._begins_with_it()
