"""Waiting for a condition, with a deadline. Nothing else in the tests sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Short against everything that is waited for, long against the cost of one look.
_INTERVAL_SECONDS = 0.005


def until(what: str, condition: Callable[[], T], seconds: float = 15.0) -> T:
    """Look at `condition` until it yields something true, and return that; name `what` was missing when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s in vain for {what}; last seen: {value!r}")
        time.sleep(_INTERVAL_SECONDS)
