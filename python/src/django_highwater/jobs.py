"""Jobs of any queue, Django's Tasks among them: a job sees what whoever queued it had seen and written.

    @task()
    @carries_position
    def send_receipt(order_id): ...

and, so that `send_receipt.enqueue(order_id)` takes the position along, a backend that says so:

    class Backend(CarryingBackend, DatabaseBackend): ...

Other queues take it along by hand: `queue.enqueue(send_receipt, order.pk, highwater_token=current_token())`. Take it
after COMMIT (`transaction.on_commit`). A job without a position reads strongly.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from asgiref.sync import sync_to_async

from .session import current_token, use_token

_F = TypeVar("_F", bound=Callable[..., Any])
_ARGUMENT = "highwater_token"

if TYPE_CHECKING:

    class _Backend:
        def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any: ...

        async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any: ...
else:
    _Backend = object


def carries_position(function: _F) -> _F:
    """A job that takes one argument more, `highwater_token`, and runs in the session that it names."""
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, highwater_token: str | None = None, **kwargs: Any) -> Any:
            with use_token(highwater_token):
                return await function(*args, **kwargs)

        run: Any = awaited
    else:

        @wraps(function)
        def called(*args: Any, highwater_token: str | None = None, **kwargs: Any) -> Any:
            with use_token(highwater_token):
                return function(*args, **kwargs)

        run = called
    run.highwater_carries = True
    return cast("_F", run)


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
