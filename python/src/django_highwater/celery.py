"""Celery: a task sees what whoever queued it had seen and written.

    from django_highwater.celery import connect

    connect()  # beside the application; it may be called again

The position is taken when the task is published: use `delay_on_commit`, for a task that is published within a
transaction may run before COMMIT, which nothing can help. It travels in the message's headers. A task without one reads
strongly.
"""

from __future__ import annotations

from typing import Any

from celery import signals  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from .session import current_token, use_token

_HEADER = "highwater_token"


def connect() -> None:
    """Carry positions with all tasks of this process, to workers that do the same."""
    signals.before_task_publish.connect(_publish, dispatch_uid=__name__)
    signals.task_prerun.connect(_begin, dispatch_uid=__name__)
    signals.task_postrun.connect(_end, dispatch_uid=__name__)


def _publish(headers: dict[str, Any] | None = None, **_kwargs: object) -> None:
    token = current_token()
    # A task that is published again keeps what it came with, if nothing newer is known.
    if headers is not None and token:
        headers[_HEADER] = token


def _begin(task: Any = None, **_kwargs: object) -> None:
    # The request is the task's own, also where a worker runs several at once.
    request: Any = task.request
    headers: dict[str, Any] = request.headers or {}
    token: str | None = request.get(_HEADER) or headers.get(_HEADER)
    block = use_token(token)
    block.__enter__()
    request.highwater_block = block


def _end(task: Any = None, **_kwargs: object) -> None:
    block: use_token | None = getattr(task.request, "highwater_block", None)
    if block is not None:
        block.__exit__(None, None, None)
        task.request.highwater_block = None
