"""A level for class-based views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .levels import Level, consistency

if TYPE_CHECKING:
    from django.views import View as _View
else:
    _View = object


class ConsistencyMixin(_View):
    """Before the view's class: all that the view reads, its template included, is read at `consistency_level`.

    `consistency_levels` says it for methods ("get"), and for the actions of a viewset of Django REST framework
    ("list").
    """

    consistency_level: Level | None = None
    consistency_levels: dict[str, Level] = {}

    def consistency_for(self, method: str) -> Level | None:
        """The level for an HTTP method, in lower case."""
        actions: dict[str, str] = getattr(self, "action_map", None) or {}
        for name in (actions.get(method, method), method):
            if name in self.consistency_levels:
                return self.consistency_levels[name]
        return self.consistency_level

    def dispatch(self, *args: Any, **kwargs: Any) -> Any:
        """Run the view in a block of its level."""
        level = self.consistency_for(str(args[0].method).lower())
        run = super().dispatch
        return consistency(level)(run)(*args, **kwargs) if level else run(*args, **kwargs)
