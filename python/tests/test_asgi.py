"""Django's own ASGI handler, as a server runs it: each request in a context, and on a thread, of its own."""

import asyncio
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.test import override_settings

Lag = Callable[..., Any]


@pytest.fixture(autouse=True)
def _site(site: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever brings no position may see anything; and nobody comes back to a request's thread (`manage.py check`)."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    with override_settings(HIGHWATER={"CONSISTENCY": "session"}):
        yield


class Visitor:
    """A browser at an ASGI application: it keeps cookies."""

    def __init__(self, application: ASGIHandler) -> None:
        self._application = application
        self._cookies: dict[str, str] = {}

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = [(b"host", b"testserver"), (b"cookie", cookies.encode())]
        headers.append((b"content-type", b"application/x-www-form-urlencoded"))
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        exchange = ApplicationCommunicator(self._application, scope)
        await exchange.send_input({"type": "http.request", "body": body})
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
