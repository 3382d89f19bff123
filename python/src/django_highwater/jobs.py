"""Jobs of any queue, Django's Tasks among them: a job sees what whoever queued it had seen and written.

    @task()
    @carries_position
    def send_receipt(order_id): ...

and, so that `send_receipt.enqueue(order_id)` takes the position along, a backend that says so:

    class Backend(CarryingBackend, DatabaseBackend): ...

Other queues take it along by hand: `queue.enqueue(send_receipt, order.pk, highwater_token=current_token())`. Take it
after COMMIT (`transaction.on_commit`). A job without a position reads strongly.

`@carries_position(patience=2.0)` lets a job begin later rather than read on the primary.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from asgiref.sync import sync_to_async
from django.db import DEFAULT_DB_ALIAS, Error, connections

from .aliases import place_of
from .connections import connected
from .session import current, current_token, use_token

logger = logging.getLogger("django_highwater")
_F = TypeVar("_F", bound=Callable[..., Any])
_ARGUMENT = "highwater_token"

if TYPE_CHECKING:

    class _Backend:
        def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any: ...

        async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any: ...
else:
    _Backend = object


@overload
def carries_position(function: _F, /) -> _F: ...


@overload
def carries_position(*, patience: float = 0.0, using: str = DEFAULT_DB_ALIAS) -> Callable[[_F], _F]: ...


def carries_position(
    function: Callable[..., Any] | None = None, /, *, patience: float = 0.0, using: str = DEFAULT_DB_ALIAS
) -> Any:
    """A job that takes one argument more, `highwater_token`, and runs in the session that it names.

    `patience`, in seconds, is how long it may wait until a standby of `using` shows what it must see, before it begins;
    then it begins in any case.
    """

    def carrying(function: Callable[..., Any]) -> Callable[..., Any]:
        return _carrying(function, patience, using)

    return carrying(function) if function else carrying


def _carrying(function: Callable[..., Any], patience: float, using: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, highwater_token: str | None = None, **kwargs: Any) -> Any:
            with use_token(highwater_token):
                if patience > 0:
                    # In the thread that uses the connections.
                    await sync_to_async(wait_for_position)(patience, using=using)
                return await function(*args, **kwargs)

        run: Any = awaited
    else:

        @wraps(function)
        def called(*args: Any, highwater_token: str | None = None, **kwargs: Any) -> Any:
            with use_token(highwater_token):
                wait_for_position(patience, using=using)
                return function(*args, **kwargs)

        run = called
    run.highwater_carries = True
    return cast("Callable[..., Any]", run)


def wait_for_position(patience: float, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Wait until a standby shows what the session around the caller must see, for `patience` seconds at most.

    Nothing depends on it but where reads run: what no standby shows in time is read on the primary. Nothing is waited
    for by a session without a position, in a transaction, and on plain PostgreSQL; where Highwater expects that it
    takes longer, or where no standby is healthy, it is over at once.
    """
    session = current()
    if patience <= 0 or session is None or not session.tokens(place_of(using)):
        return
    connection = connections[using]
    try:
        if connection.get_autocommit() and connected(using).leads_to_highwater():
            with connection.cursor() as cursor:
                cursor.execute(_waiting(patience))
    except Error as error:
        # If there is something wrong, the job will meet it, on a connection of its own.
        logger.warning("%s: a job has not waited for a standby: %s", using, error)
        connection.close()


def _waiting(patience: float) -> str:
    """A statement that any standby can run which has replayed the session's position."""
    milliseconds = round(patience * 1000)
    return f"/* highwater.consistency='session' highwater.wait_budget='{milliseconds}ms' */ SELECT 1"


class CarryingBackend(_Backend):
    """Before the class of a backend of Django's Tasks: enqueuing takes the caller's position along."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """As ever, with the position for jobs that carry one."""
        return super().enqueue(task, args, _with_position(task, kwargs))

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """The same, asynchronously."""
        # In the thread that uses the connections.
        return await super().aenqueue(task, args, await sync_to_async(_with_position)(task, kwargs))


def _with_position(task: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    if not getattr(task.func, "highwater_carries", False) or _ARGUMENT in kwargs:
        return kwargs
    return {**kwargs, _ARGUMENT: current_token()}
