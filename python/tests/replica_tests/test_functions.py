"""As pytest-django has them."""

from typing import Any

import pytest
from django.test.testcases import DatabaseOperationForbidden

from project.models import Wish

both = pytest.mark.django_db(databases=["default", "replica"])
committed = pytest.mark.django_db(databases=["default", "replica"], transaction=True)


@both
def test_what_was_written_is_read_by_the_replica() -> None:
    Wish.objects.create(thing="x")
    assert Wish.objects.using("replica").count() == 1


@both
def test_and_is_gone_afterwards(client: Any) -> None:
    assert Wish.objects.using("replica").count() == 0
    client.post("/wish/", {"thing": "x"})
    assert Wish.objects.using("replica").count() == 1


@committed
def test_what_was_committed() -> None:
    Wish.objects.create(thing="x")
    assert Wish.objects.using("replica").count() == 1


@pytest.mark.django_db
def test_what_is_not_named_is_refused() -> None:
    assert Wish.objects.count() == 0
    with pytest.raises(DatabaseOperationForbidden):
        Wish.objects.using("replica").count()
