"""Prometheus: how many statements each server ran, why there, and how long they waited for it.

    from django_highwater.metrics import connect

    connect()  # beside the application; it may be called again

It needs `prometheus-client`. The labels are the columns of Highwater's own `SHOW ROUTES`, and the alias; statements
that did not go through Highwater have neither server nor reason.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from .seeing import Listener, Statement, listen

# From less than a replica's usual lag to the longest that anybody waits for a page, in seconds.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def connect(registry: CollectorRegistry = REGISTRY) -> None:
    """Count all statements of this process in `registry`. The last call counts."""
    listen(_counting(registry), instead_of=_Metrics)


class _Metrics(Listener):
    def __init__(self, registry: CollectorRegistry) -> None:
        self._routes = Counter(
            "highwater_routes",
            "Statements, by where they ran and why.",
            ["alias", "server", "reason"],
            registry=registry,
        )
        self._waits = Histogram(
            "highwater_wait_seconds",
            "How long statements waited until a server had what they must see.",
            ["alias", "server"],
            registry=registry,
            buckets=_BUCKETS,
        )

    def is_listening(self) -> bool:
        return True

    def append(self, statement: Statement, /) -> None:
        self._routes.labels(statement.alias, statement.server or "", statement.reason or "").inc()
        if statement.waited:
            self._waits.labels(statement.alias, statement.server or "").observe(statement.waited)


@cache
def _counting(registry: CollectorRegistry) -> _Metrics:
    """A registry takes each name once."""
    return _Metrics(registry)
