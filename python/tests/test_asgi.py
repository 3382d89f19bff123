"""Django's own ASGI handler, as a server runs it: each request in a context, and on a thread, of its own.

And clients that go away: Django cancels the view then, wherever it is.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings

from django_highwater import current_token, use_token
from django_highwater.middleware import HighwaterMiddleware
from harness.lab import Lab
from harness.waiting import until
from watching import patient

Lag = Callable[..., Any]


@pytest.fixture(autouse=True)
def _site(site: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever brings no position may see anything; and nobody comes back to a request's thread (`manage.py check`)."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    with override_settings(HIGHWATER={"CONSISTENCY": "session"}):
        yield


class Visitor:
    """A browser at an ASGI application: it keeps cookies."""

    def __init__(self, application: ASGIHandler, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self._application = application
        self._headers = headers or []
        self._cookies: dict[str, str] = {}

    async def _sent(self, method: str, path: str, body: bytes) -> ApplicationCommunicator:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = [*self._headers, (b"host", b"testserver"), (b"cookie", cookies.encode())]
        headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        exchange = ApplicationCommunicator(self._application, scope)
        await exchange.send_input({"type": "http.request", "body": body})
        return exchange

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        exchange = await self._sent(method, path, body)
        start = await exchange.receive_output(20)
        for name, value in start["headers"]:
            if name.lower() == b"set-cookie":
                self._cookies.update({key: morsel.value for key, morsel in SimpleCookie(value.decode()).items()})
        parts, more = [], True
        while more:
            part = await exchange.receive_output(20)
            parts.append(part.get("body", b""))
            more = part.get("more_body", False)
        await exchange.wait(20)
        return b"".join(parts)

    async def get(self, path: str) -> str:
        """What is there."""
        return (await self._ask("GET", path)).decode()

    async def post(self, path: str, **values: str) -> None:
        """Send a form."""
        await self._ask("POST", path, urlencode(values).encode())

    async def post_and_leave(self, path: str, has_come: Callable[[], bool], **values: str) -> None:
        """Send a form, and go away when the view has come so far."""
        exchange = await self._sent("POST", path, urlencode(values).encode())
        await asyncio.to_thread(until, "the view to have come so far", has_come)
        await exchange.send_input({"type": "http.disconnect"})
        await exchange.wait(20)


def test_visitors_at_the_same_time_see_what_each_has_written(site: None, lag: Lag) -> None:
    async def story() -> list[tuple[str, str]]:
        application = ASGIHandler()

        async def visit(number: int) -> tuple[str, str]:
            visitor, thing = Visitor(application), f"thing {number}"
            # Of both kinds.
            await visitor.post("/wish/async/" if number % 2 else "/wish/", thing=thing)
            return thing, await visitor.get("/wishes/async/" if number % 3 else "/wishes/mine/")

        return await asyncio.gather(*(visit(number) for number in range(8)))

    with lag():
        for thing, page in async_to_sync(story)():
            assert thing in page


def test_what_is_read_while_a_response_is_sent(site: None, lag: Lag) -> None:
    async def story() -> str:
        visitor = Visitor(ASGIHandler())
        await visitor.post("/wish/async/", thing="lightsaber")
        return await visitor.get("/wishes/streamed/async/")

    with lag():
        assert "lightsaber" in async_to_sync(story)()


class TestClientsThatGoAway:
    """What was written counts for whoever can still ask for it, and for nobody else."""

    def test_the_handler_goes_on(self, lab: Lab, lag: Lag, monkeypatch: pytest.MonkeyPatch) -> None:
        """The user of a key sees what was written, though nobody has got an answer."""

        async def story() -> list[str]:
            application = ASGIHandler()
            ann, bob = Visitor(application, headers=[(b"x-user", b"ann")]), Visitor(application)
            await ann.post_and_leave("/wish/async/late/", lambda: written(lab) == 1, thing="x")
            with monkeypatch.context() as patch:
                # Each of his connections is patient.
                options = {"options": "-c highwater.wait_budget=10s"}
                patch.setitem(connections.settings["default"], "OPTIONS", options)
                page = await bob.get("/wishes/async/")
            return [page, await ann.get("/wishes/async/")]

        with override_settings(HIGHWATER={"CONSISTENCY": "session", "KEY": "project.views.user_of"}), lag():
            assert async_to_sync(story)() == ["[]", '["x"]']

    def test_the_next_one_on_the_connection(self, lab: Lab, lag: Lag) -> None:
        async def story() -> tuple[int, int]:
            async def view(request: HttpRequest) -> HttpResponse:
                await wishes().acreate(thing="x")
                await asyncio.Event().wait()
                return HttpResponse()

            return await self._left(view, lambda: written(lab) == 1)

        with lag():
            assert async_to_sync(story)() == (0, 1)

    def test_amid_a_statement(self, lab: Lab, lag: Lag) -> None:
        """It goes on in its thread, when its view and its session are long over."""
        lock = lab.primary.connect()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'project_wish'::regclass"

        async def story() -> tuple[int, int]:
            async def view(request: HttpRequest) -> HttpResponse:
                await wishes().acreate(thing="x")
                return HttpResponse()

            return await self._left(view, lambda: lab.primary.value(waits) == 1, then=lock.close)

        with lag():
            lock.execute("BEGIN")
            lock.execute("LOCK TABLE project_wish IN EXCLUSIVE MODE")
            assert async_to_sync(story)() == (0, 1)

    @staticmethod
    async def _left(
        view: Any, has_come: Callable[[], bool], then: Callable[[], None] = lambda: None
    ) -> tuple[int, int]:
        """What the next session on the thread's connection counts, and whoever goes on for the one that was left."""
        with use_token(""):
            task = asyncio.ensure_future(HighwaterMiddleware(view)(RequestFactory().post("/")))
            await asyncio.to_thread(until, "the view to have come so far", has_come)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            then()
            token = await sync_to_async(current_token)()
        counts = []
        for brought, how in (("", patient), (token, nullcontext)):
            block = how()
            await sync_to_async(block.__enter__)()
            with use_token(brought):
                counts.append(await wishes().acount())
            await sync_to_async(block.__exit__)(None, None, None)
        return counts[0], counts[1]


def wishes() -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects


def written(lab: Lab) -> int:
    """How many wishes there are."""
    count: int = lab.primary.value("SELECT count(*) FROM project_wish")
    return count
