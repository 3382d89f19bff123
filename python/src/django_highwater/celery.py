"""Celery: a task sees what whoever queued it had seen and written.

    from django_highwater.celery import connect

    connect()  # beside the application; it may be called again

The position is taken when the task is published: use `delay_on_commit`, for a task that is published within a
transaction may run before COMMIT, which nothing can help. It travels in the message's headers. A task without one reads
strongly.

`connect(patience=2.0)` lets tasks begin later rather than read on the primary, `@app.task(highwater_patience=0.5)` says
it for one task.
"""

from __future__ import annotations

from typing import Any

from celery import signals  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]
from django.db import DEFAULT_DB_ALIAS

from .jobs import wait_for_position
from .session import current_token, use_token

_HEADER = "highwater_token"
# What the last `connect` said: for how many seconds a task waits, and at which alias.
_patience, _using = 0.0, DEFAULT_DB_ALIAS


def connect(*, patience: float = 0.0, using: str = DEFAULT_DB_ALIAS) -> None:
    """Carry positions with all tasks of this process, to workers that do the same.

    `patience`, in seconds, is how long a task may wait until a standby of `using` shows what it must see, before it
    begins; then it begins in any case. A task's own `highwater_patience` counts more. The last call counts.
    """
    global _patience, _using
    _patience, _using = patience, using
    signals.before_task_publish.connect(_publish, dispatch_uid=__name__)
    signals.task_prerun.connect(_begin, dispatch_uid=__name__)
    signals.task_postrun.connect(_end, dispatch_uid=__name__)
    signals.worker_init.connect(_begin_last, dispatch_uid=__name__)


def _begin_last(**_kwargs: object) -> None:
    """Celery itself closes all connections before a task, and with them what has been heard of positions."""
    signals.task_prerun.disconnect(dispatch_uid=__name__)
    signals.task_prerun.connect(_begin, dispatch_uid=__name__)


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
    patience: float | None = getattr(task, "highwater_patience", None)
    wait_for_position(_patience if patience is None else patience, using=_using)


def _end(task: Any = None, **_kwargs: object) -> None:
    block: use_token | None = getattr(task.request, "highwater_block", None)
    if block is not None:
        block.__exit__(None, None, None)
        task.request.highwater_block = None
