"""`Server-Timing`: which servers answered a request's statements, for the browser's developer tools.

MIDDLEWARE = ["django_highwater.middleware.HighwaterMiddleware", "django_highwater.timing.ServerTimingMiddleware", ...]

With DEBUG everybody is told, else members of staff alone: servers' names are nobody's business.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

from .seeing import Statement, recorded

_Next = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class ServerTimingMiddleware:
    """One entry for each server and reason: how many statements, and their time together, in milliseconds."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: _Next) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer_async(request)
        with recorded() as statements:
            response = cast("HttpResponseBase", self._get_response(request))
        return _told(request, response, statements)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        with recorded() as statements:
            response = await cast("Awaitable[HttpResponseBase]", self._get_response(request))
        return _told(request, response, statements)


def _told(request: HttpRequest, response: HttpResponseBase, statements: list[Statement]) -> HttpResponseBase:
    # The user, if the request has asked for it: asking now would be a statement more.
    user: Any = getattr(request, "_cached_user", None)
    if statements and (settings.DEBUG or getattr(user, "is_staff", False)):
        before = [response["Server-Timing"]] if response.has_header("Server-Timing") else []
        response["Server-Timing"] = ", ".join(before + entries(statements))
    return response


def entries(statements: list[Statement]) -> list[str]:
    """The header's entries, in the order in which servers were first used."""
    times: dict[tuple[str, str], list[float]] = {}
    for statement in statements:
        place = statement.server or statement.alias, statement.reason or "no Highwater"
        times.setdefault(place, []).append(statement.seconds)
    return [
        f'{re.sub(r"[^A-Za-z0-9_-]", "_", server)};dur={sum(seconds) * 1000:.1f};desc="{len(seconds)} {reason}"'
        for (server, reason), seconds in times.items()
    ]
