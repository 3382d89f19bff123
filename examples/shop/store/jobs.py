"""A job, and the simplest queue that runs one beside the request: threads with connections of their own."""

from threading import Thread
from typing import Any

from django.db import connections
from django_tasks import TaskResult, task
from django_tasks.backends.immediate import ImmediateBackend

from django_highwater.jobs import CarryingBackend, carries_position

from .models import Message, Wish


class _Threads(ImmediateBackend):
    """Runs each job in a thread of its own. For an example: what is queued when the process ends is gone."""

    def _execute_task(self, task_result: TaskResult) -> None:
        def run() -> None:
            try:
                super(_Threads, self)._execute_task(task_result)
            finally:
                connections.close_all()

        Thread(target=run).start()


class ThreadBackend(CarryingBackend, _Threads):
    """The same, with the position of whoever queued the job."""


@task()
@carries_position
def praise(wish_id: int) -> None:
    """Tell the owner of a wish how good it is. It reads what the request has just written."""
    wish: Any = Wish.objects.select_related("product").get(pk=wish_id)
    Message.objects.create(to_id=wish.owner_id, text=f"The {wish.product.name} on your wishlist is a good choice.")
