"""Jobs, which look at what the request that queued them has written."""

from typing import Any

from celery import Celery
from django_tasks import task
from django_tasks.backends.immediate import ImmediateBackend

from django_highwater import current_token
from django_highwater.jobs import CarryingBackend, carries_position
from django_highwater.seeing import recorded
from django_highwater.session import current

app = Celery("project", broker="memory://", backend="cache+memory://")
app.conf.task_always_eager = False


@app.task(bind=True, max_retries=3)
def count_wishes(self: Any, retries: int = 0) -> dict[str, Any]:
    """How many wishes it sees, at which level, with which position; once more as often as is wanted."""
    from .models import Wish

    if retries > self.request.retries:
        raise self.retry(args=[retries], countdown=0)
    with recorded() as statements:
        count = Wish.objects.count()
    return {"count": count, "level": statements[0].level, "token": current_token()}


@app.task
def add_wish() -> None:
    """Writes."""
    from .models import Wish

    Wish.objects.create(thing="by a task")


class Backend(CarryingBackend, ImmediateBackend):
    """Runs at once, as development does."""


@task()
@carries_position
def count_wishes_as_task() -> dict[str, Any]:
    """The same for Django's Tasks; and whether it runs in a session of its own."""
    return _counted()


@task()
@carries_position
async def count_wishes_async() -> dict[str, Any]:
    """The same as a coroutine."""
    from .models import Wish

    return {"count": await Wish.objects.acount(), "token": current_token()}


@task()
def plain_task() -> bool:
    """One that carries nothing."""
    return current() is None


def _counted() -> dict[str, Any]:
    from .models import Wish

    with recorded() as statements:
        count = Wish.objects.count()
    return {"count": count, "level": statements[0].level, "token": current_token()}
