"""A panel for django-debug-toolbar: per statement its server, level and reason, what it had to see and what its
standby showed, how often it ran in vain, and how long it waited.

DEBUG_TOOLBAR_PANELS = [..., "django_highwater.panel.HighwaterPanel"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse

from .seeing import Statement, begin, end
from .session import current

if TYPE_CHECKING:

    class _Panel:
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def get_stats(self) -> dict[str, Any]: ...

        def record_stats(self, stats: dict[str, Any]) -> None: ...
else:
    from debug_toolbar.panels import Panel as _Panel


class HighwaterPanel(_Panel):
    """Where statements ran, and why there."""

    title = "Highwater"
    template = "django_highwater/panel.html"
    is_async = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._statements: list[Statement] = []

    @property
    def nav_subtitle(self) -> str:
        """How many statements ran where."""
        stats = self.get_stats()
        return f"{stats.get('on_standbys', 0)} on replicas, {stats.get('on_primary', 0)} on the primary"

    def enable_instrumentation(self) -> None:
        """Called before the request."""
        begin(self._statements)

    def disable_instrumentation(self) -> None:
        """Called behind it."""
        end(self._statements)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        """What the template shows."""
        session = current()
        routed = [statement for statement in self._statements if statement.server]
        on_primary = sum(statement.is_on_primary for statement in routed)
        self.record_stats(
            {
                "statements": self.rows(self._statements),
                "on_primary": on_primary,
                "on_standbys": len(routed) - on_primary,
                "wrote": bool(session and session.wrote),
                "position": session.text() if session else "",
            }
        )

    @staticmethod
    def rows(statements: list[Statement]) -> list[dict[str, Any]]:
        """One line of the table for each statement; times in milliseconds."""
        return [
            {
                "sql": statement.sql,
                "alias": statement.alias,
                "server": statement.server or "",
                "level": statement.level or "",
                "reason": (statement.reason or "").replace("_", " "),
                "waited": f"{statement.waited * 1000:.1f}" if statement.waited else "",
                "floor": statement.floor or "",
                "applied": statement.applied or "",
                "retries": statement.retries or "",
                "milliseconds": f"{statement.seconds * 1000:.1f}",
                "is_on_primary": statement.is_on_primary,
            }
            for statement in statements
        ]
