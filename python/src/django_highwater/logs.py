"""Fields for logs: where the last statement ran, and why.

"filters": {"highwater": {"()": "django_highwater.logs.RouteFilter"}},
"formatters": {"plain": {"format": "%(message)s server=%(highwater_server)s reason=%(highwater_reason)s"}},
"""

from __future__ import annotations

import logging

from django.db import DEFAULT_DB_ALIAS, connections

from .connections import carrier_of
from .session import current


class RouteFilter(logging.Filter):
    """Adds `highwater_server`, `highwater_reason`, `highwater_waited` and `highwater_key` to each record.

    "-" stands where nothing is known.
    """

    def __init__(self, name: str = "", using: str = DEFAULT_DB_ALIAS) -> None:
        super().__init__(name)
        self._using = using

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets everything pass."""
        carrier = carrier_of(connections[self._using])
        route = carrier.route() if carrier else None
        session = current()
        record.highwater_server = (route and route.server) or "-"
        record.highwater_reason = (route and route.reason) or "-"
        record.highwater_waited = f"{route.waited * 1000:.1f}ms" if route and route.server else "-"
        record.highwater_key = session.key if session and session.key is not None else "-"
        return True
