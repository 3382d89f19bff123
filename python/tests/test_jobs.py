"""Jobs see what their enqueuers saw and wrote."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import override_settings

from django_highwater import current_token, use_token

Lag = Callable[..., Any]


def wishes() -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects


@pytest.fixture(scope="module")
def worker(_django: None) -> Iterator[None]:
    """A worker of Celery, which takes some seconds to start and to stop."""
    from celery.contrib.testing.worker import start_worker

    from django_highwater.celery import connect
    from project.tasks import app

    connect()
    connect()
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        yield


class TestCelery:
    """A real worker, in a thread of its own, with connections of its own."""

    @pytest.fixture(autouse=True)
    def _site(self, site: None, worker: None) -> None:
        """Empty tables, and the worker."""

    def test_a_task_reads_its_enqueuers_row(self, lag: Lag) -> None:
        from project.tasks import count_wishes

        with lag(), use_token(""):
            wishes().create(thing="x")
            result = count_wishes.delay().get(timeout=20)
        assert (result["count"], result["level"]) == (1, "session")

    def test_also_when_it_tries_again(self, lag: Lag) -> None:
        from project.tasks import count_wishes

        with lag(), use_token(""):
            wishes().create(thing="x")
            result = count_wishes.delay(retries=2).get(timeout=20)
        assert (result["count"], result["level"]) == (1, "session")

    def test_on_commit(self, lag: Lag) -> None:
        from project.tasks import count_wishes

        results: list[Any] = []
        with lag(), use_token(""):
            with transaction.atomic():
                wishes().create(thing="x")
                transaction.on_commit(lambda: results.append(count_wishes.delay()))
            result = results[0].get(timeout=20)
        assert (result["count"], result["level"]) == (1, "session")

    def test_without_a_position_it_reads_strongly(self, lag: Lag) -> None:
        from project.tasks import count_wishes

        with lag():
            wishes().create(thing="x")
            result = count_wishes.delay().get(timeout=20)
        assert (result["count"], result["level"]) == (1, None)

    def test_one_task_leaves_nothing_to_the_next(self, lag: Lag) -> None:
        from project.tasks import count_wishes

        with use_token(""):
            wishes().create(thing="x")
            count_wishes.delay().get(timeout=20)
        result = count_wishes.delay().get(timeout=20)
        assert result["level"] is None

    def test_an_eager_task_is_part_of_its_caller(self, lag: Lag) -> None:
        from project.tasks import add_wish, app

        app.conf.task_always_eager = True
        try:
            with lag(), use_token("") as session:
                add_wish.delay()
                assert session.wrote
                token = current_token()
                connection.close()
                with use_token(token):
                    assert wishes().count() == 1
        finally:
            app.conf.task_always_eager = False


class TestTasks:
    """Django's Tasks."""

    @pytest.fixture(autouse=True)
    def _tasks(self, site: None) -> Iterator[None]:
        with override_settings(TASKS={"default": {"BACKEND": "project.tasks.Backend"}}):
            yield

    def test_the_position_goes_along(self, lag: Lag) -> None:
        from project.tasks import count_wishes_as_task

        with lag(), use_token(""):
            wishes().create(thing="x")
            token = current_token()
            result = count_wishes_as_task.enqueue()
        assert result.kwargs == {"highwater_token": token}
        assert (result.return_value["count"], result.return_value["level"]) == (1, "session")

    def test_asynchronously(self, lag: Lag) -> None:
        from project.tasks import count_wishes_async

        async def story() -> Any:
            with use_token(""):
                await wishes().acreate(thing="x")
                return await count_wishes_async.aenqueue()

        with lag():
            result = async_to_sync(story)()
        assert result.return_value["count"] == 1
        assert result.kwargs["highwater_token"]

    def test_others_are_left_alone(self) -> None:
        from project.tasks import plain_task

        result = plain_task.enqueue()
        assert result.kwargs == {}
        assert result.return_value is True

    def test_any_queue_by_hand(self, lag: Lag) -> None:
        from project.tasks import count_wishes_as_task

        with lag():
            with use_token(""):
                wishes().create(thing="x")
                token = current_token()
            connection.close()
            result = count_wishes_as_task.func(highwater_token=token)
        assert (result["count"], result["level"]) == (1, "session")
