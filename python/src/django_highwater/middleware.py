"""The middleware: one session for each request.

It is the first in the list, so that whatever the others read and write is part of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse

from .carrying import hand_out, is_wanted, session_of
from .conf import configuration
from .session import Session, current, entered, identify

_Next = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class HighwaterMiddleware:
    """Takes a request's position in, and gives the response's out. For WSGI and ASGI."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: _Next) -> None:
        self._get_response = get_response
        # asgiref's, because before Python 3.12 only that one knows what markcoroutinefunction has marked.
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]
        if self._is_async:
            markcoroutinefunction(self)
        # A mistake in the settings is to be heard of at the start, and not by the first visitor.
        configuration()

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._answer_async(request)
        session = session_of(request)
        with entered(session):
            response = cast("HttpResponseBase", self._get_response(request))
            if session.has_begun() or session.wrote:
                _settle(session, request, response)
        return _finished(session, request, response)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        session = session_of(request)
        with entered(session):
            response = await cast("Awaitable[HttpResponseBase]", self._get_response(request))
            if session.has_begun() or session.wrote:
                # Only the thread that uses the connections may read from them.
                await sync_to_async(_settle)(session, request, response)
        return _finished(session, request, response)

    def process_view(self, request: HttpRequest, _view: object, _args: object, _kwargs: object) -> None:
        """Ask who it is when all middleware has run: the user is known then."""
        if configuration().KEY and current() is not None:
            identify(configuration().key_of(request))


def _settle(session: Session, request: HttpRequest, response: HttpResponseBase) -> None:
    """Find out how far the session has come, if the client is to know."""
    session.hear_rest()
    if is_wanted(session, request, response) and not session.gather():
        session.lose_all()


def _finished(session: Session, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    hand_out(session, request, response)
    # A file is read without the database, and by the web server itself where that can.
    if isinstance(response, StreamingHttpResponse) and getattr(response, "file_to_stream", None) is None:
        # What is read while the response is sent is still this request's, though its headers are gone by then.
        content: Any = response.streaming_content
        response.streaming_content = _async_parts(session, content) if response.is_async else _parts(session, content)
    return response


def _parts(session: Session, content: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        with entered(session):
            try:
                part = next(content)
            except StopIteration:
                return
        yield part


async def _async_parts(session: Session, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        with entered(session):
            try:
                part = await anext(content)
            except StopAsyncIteration:
                return
        yield part
