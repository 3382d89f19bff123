"""The comparison: who picks the server for a read, and what became of the page's statements.

Only this module knows of routers, and a shop that uses Highwater has no such module.
"""

import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from django_highwater.seeing import Statement, begin, end

from .lab import lags

COOKIE = "router"
_article = ContextVar("article", default=False)


class SwitchRouter:
    """The article's router while the switch says so; else none at all."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Any replica."""
        return random.choice(["replica1", "replica2"]) if _article.get() else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """The primary."""
        return "primary" if _article.get() else "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        """All aliases are one database."""
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        """Once is enough."""
        return db == "default"


class SwitchMiddleware:
    """Takes the switch's position from a cookie, and notes the request's statements."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        if iscoroutinefunction(self):
            return self._answer_async(request)
        statements = self._begin(request)
        try:
            response: HttpResponse = self._get_response(request)
            return response
        finally:
            end(statements)

    async def _answer_async(self, request: HttpRequest) -> HttpResponse:
        statements = self._begin(request)
        try:
            response: HttpResponse = await self._get_response(request)
            return response
        finally:
            end(statements)

    @staticmethod
    def _begin(request: HttpRequest) -> list[Statement]:
        _article.set("replica1" in settings.DATABASES and request.COOKIES.get(COOKIE) == "article")
        statements: list[Statement] = []
        begin(statements)
        request.statements = statements
        return statements


def controls(request: HttpRequest) -> dict[str, Any]:
    """For templates: the switch, the sliders, and where the statements so far have run."""
    return {
        "is_article": _article.get(),
        "has_switch": "replica1" in settings.DATABASES,
        "lags": lags() if settings.LAB else {},
        "statements": getattr(request, "statements", []),
    }
