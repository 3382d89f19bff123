"""Jobs see what their enqueuers saw and wrote."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event, Thread
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection, transaction
from django.test import override_settings

from django_highwater import current_token, primary, use_token
from django_highwater.connections import connected
from django_highwater.jobs import CarryingBackend, carries_position
from django_highwater.seeing import Statement, recorded
from harness.waiting import until

Lag = Callable[..., Any]
# Longer than standbys take on a slow machine.
LONG = 20.0


def wishes(using: str = "default") -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects.using(using)


def read() -> dict[str, Any]:
    """What a job sees, and where it reads it."""
    with recorded() as statements:
        count = wishes().count()
    (statement,) = statements
    return {"count": count, "on_primary": statement.is_on_primary, "level": statement.level}


@carries_position
def counted() -> dict[str, Any]:
    """A job of a module, as Django's Tasks want it."""
    return read()


def written() -> str:
    """The position behind a write of somebody else's."""
    with use_token(""):
        wishes().create(thing="x")
        token = current_token()
    connection.close()
    return token


def is_wait(statement: Statement) -> bool:
    """Whether it is what a patient job begins with."""
    return "wait_budget" in statement.sql


def _leave_logging_alone(**_said: object) -> None:
    """Celery sets it up where nobody does."""


@pytest.fixture(scope="module")
def worker(_django: None) -> Iterator[None]:
    """A worker of Celery, which takes some seconds to start and to stop."""
    from celery.contrib.testing.worker import start_worker
    from celery.signals import setup_logging

    from django_highwater.celery import connect
    from project.tasks import app

    app.task(name="hasty")(read)
    app.task(name="patient", highwater_patience=LONG)(read)
    connect()
    connect()
    # Other tests of this process want to hear warnings.
    setup_logging.connect(_leave_logging_alone)
    with start_worker(app, pool="solo", perform_ping_check=False):
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

    def test_on_commit_by_name(self, lag: Lag) -> None:
        """`delay_on_commit` gives no result back."""
        from celery.signals import task_postrun

        from project.tasks import count_wishes

        results: list[Any] = []

        def hear(retval: Any = None, **_rest: Any) -> None:
            results.append(retval)

        task_postrun.connect(hear)
        try:
            with lag(), use_token(""):
                wishes().create(thing="x")
                before = current_token()
                with transaction.atomic():
                    wishes().create(thing="y")
                    count_wishes.delay_on_commit()
                result = until("the task to have run", lambda: results, LONG)[0]
        finally:
            task_postrun.disconnect(hear)
        assert (result["count"], result["level"]) == (2, "session")
        assert result["token"] != before

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

    @pytest.fixture
    def waiting(self, monkeypatch: pytest.MonkeyPatch) -> Event:
        """Set when the worker has something to wait for, and is about to."""
        from django_highwater import jobs

        begun, waiting_for = Event(), jobs._waiting

        def noted(patience: float) -> str:
            begun.set()
            return waiting_for(patience)

        monkeypatch.setattr(jobs, "_waiting", noted)
        return begun

    def published(self, lag: Lag, name: str, waiting: Event) -> Any:
        """What a task says that is published while standbys are late: the patient one until it waits for them."""
        from project.tasks import app

        with ExitStack() as stack:
            stack.enter_context(lag())
            with use_token(""):
                wishes().create(thing="x")
                result = app.tasks[name].delay()
            if name == "patient":
                assert waiting.wait(LONG)
                stack.close()
            return result.get(timeout=LONG)

    def test_a_patient_task_reads_on_a_standby(self, lag: Lag, waiting: Event) -> None:
        result = self.published(lag, "patient", waiting)
        assert (result["count"], result["on_primary"], result["level"]) == (1, False, "session")

    def test_another_one_reads_on_the_primary(self, lag: Lag, waiting: Event) -> None:
        result = self.published(lag, "hasty", waiting)
        assert (result["count"], result["on_primary"]) == (1, True)
        assert not waiting.is_set()

    def test_all_are_patient_where_the_application_says_so(self, lag: Lag, waiting: Event) -> None:
        from django_highwater.celery import connect

        connect(patience=0.3)
        try:
            result = self.published(lag, "hasty", waiting)
        finally:
            connect()
        assert waiting.is_set()
        assert (result["count"], result["on_primary"]) == (1, True)


class TestPatience:
    """A job that would rather begin later than read on the primary."""

    @pytest.fixture(autouse=True)
    def _site(self, site: None) -> None:
        """Empty tables."""

    def until_it_waits(self, lag: Lag) -> ExitStack:
        """A block in which standbys are late until something waits for them on this thread's connection."""
        stack = ExitStack()
        stack.enter_context(lag())
        ends: list[Thread] = []

        def end_lag(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
            if "wait_budget" in sql and not ends:
                ends.append(Thread(target=lagging.close))
                ends[0].start()
            return execute(sql, *rest)

        lagging = stack.pop_all()
        stack.callback(lagging.close)
        stack.callback(lambda: [end.join() for end in ends])
        stack.enter_context(connection.execute_wrapper(end_lag))
        return stack

    def test_its_reads_run_on_a_standby(self, lag: Lag) -> None:
        job = carries_position(patience=LONG)(read)
        with self.until_it_waits(lag):
            token = written()
            with recorded() as statements:
                result = job(highwater_token=token)
        assert (result["count"], result["on_primary"]) == (1, False)
        first, _ = statements
        assert is_wait(first)
        assert first.waited

    def test_asynchronously(self, lag: Lag) -> None:
        @carries_position(patience=LONG)
        async def job() -> tuple[int, bool]:
            with recorded() as statements:
                count = await wishes().acount()
            return count, statements[0].is_on_primary

        with self.until_it_waits(lag):
            token = written()
            with recorded() as statements:
                assert async_to_sync(job)(highwater_token=token) == (1, False)
        assert is_wait(statements[0])

    def test_without_patience_they_run_on_the_primary(self, lag: Lag) -> None:
        with lag():
            token = written()
            with recorded() as statements:
                result = carries_position(read)(highwater_token=token)
        assert (result["count"], result["on_primary"]) == (1, True)
        assert not any(is_wait(statement) for statement in statements)

    def test_it_ends(self, lag: Lag) -> None:
        """And the job runs on the primary."""
        with lag():
            token = written()
            began = time.monotonic()
            result = carries_position(patience=2.0)(read)(highwater_token=token)
        assert 2.0 <= time.monotonic() - began < LONG
        assert (result["count"], result["on_primary"]) == (1, True)

    def test_no_transaction_is_left_behind(self) -> None:
        token = written()

        def job() -> tuple[bool, bool]:
            driver = connected("default").driver
            assert driver is not None
            return driver.is_idle(), connection.get_autocommit()

        with recorded() as statements, use_token("") as session:
            assert carries_position(patience=LONG)(job)(highwater_token=token) == (True, True)
        assert [is_wait(statement) for statement in statements] == [True]
        assert not session.wrote

    @pytest.mark.parametrize("where", ["in a transaction", "without a position", "on plain PostgreSQL", "without any"])
    def test_there_is_nothing_to_wait_for(self, where: str) -> None:
        token = written()
        if where == "without a position":
            token = ""
        patience = 0.0 if where == "without any" else LONG
        using = "direct" if where == "on plain PostgreSQL" else "default"
        if using == "direct":
            token = f"direct:{token.rpartition(':')[2]}"
        with ExitStack() as stack, recorded() as statements:
            if where == "in a transaction":
                stack.enter_context(transaction.atomic())
            job = carries_position(patience=patience, using=using)(lambda: wishes(using).count())
            assert job(highwater_token=token) == 1
        assert not any(is_wait(statement) for statement in statements)

    def test_a_job_may_always_read_on_the_primary(self) -> None:
        job = carries_position(primary()(read))
        assert job(highwater_token=written())["on_primary"]

    def test_a_wait_that_fails_is_not_the_jobs_affair(self, caplog: pytest.LogCaptureFixture) -> None:
        token = written()

        def refuse(execute: Callable[..., Any], sql: Any, *rest: Any) -> Any:
            if "wait_budget" in sql:
                raise OperationalError("no server may take this read")
            return execute(sql, *rest)

        with caplog.at_level("WARNING", "django_highwater"), connection.execute_wrapper(refuse):
            result = carries_position(patience=LONG)(read)(highwater_token=token)
        assert result["count"] == 1
        assert "default: a job has not waited for a standby: no server may take this read" in caplog.text


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


@pytest.mark.skipif(django.VERSION < (6,), reason="Django has Tasks of its own from 6.0 on")
class TestDjangosOwnTasks:
    """Those of `django.tasks`, which need no other package."""

    def test_the_position_goes_along(self, lag: Lag) -> None:
        from django.tasks import task

        with override_settings(TASKS={"default": {"BACKEND": f"{__name__}.CoreBackend"}}), lag(), use_token(""):
            wishes().create(thing="x")
            token = current_token()
            result = task(counted).enqueue()
        assert result.kwargs == {"highwater_token": token}
        assert result.return_value["count"] == 1


if django.VERSION >= (6,):
    from django.tasks.backends.immediate import ImmediateBackend

    class CoreBackend(CarryingBackend, ImmediateBackend):
        """Runs at once."""
