"""How positions travel over HTTP."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from django_highwater.carrying import _Signer
from django_highwater.seeing import recorded
from watching import until_read_on_standby

Lag = Callable[..., Any]

COOKIE = "highwater"
SEEN = f"{COOKIE}_seen"
HEADER = "Highwater-Token"
HOWTO = Path(__file__).resolve().parents[2] / "docs" / "django-howto.md"


def position(client: Client) -> str | None:
    """The cookie's value."""
    return client.cookies[COOKIE].value if COOKIE in client.cookies else None


class TestCookie:
    """A browser's."""

    def test_who_only_reads_gets_none(self, client: Client) -> None:
        response = client.get("/wishes/")
        assert COOKIE not in response.cookies
        assert not response.has_header(HEADER)
        assert not response.has_header("Vary")

    def test_who_writes_gets_one(self, client: Client) -> None:
        morsel = client.post("/wish/", {"thing": "x"}).cookies[COOKIE]
        assert morsel["max-age"] == 300
        assert morsel["httponly"]
        assert morsel["samesite"] == "Lax"
        assert morsel["path"] == "/"

    def test_its_flags_are_those_of_the_sessions(self, client: Client) -> None:
        with override_settings(SESSION_COOKIE_SECURE=True, SESSION_COOKIE_SAMESITE="Strict"):
            morsel = client.post("/wish/", {"thing": "x"}).cookies[COOKIE]
        assert morsel["secure"]
        assert morsel["samesite"] == "Strict"

    def test_a_page_for_everybody_sets_none_though_one_was_sent(self, client: Client) -> None:
        client.post("/wish/", {"thing": "x"})
        response = client.get("/wishes/")
        assert not response.cookies
        assert not response.has_header("Vary")

    def test_a_page_for_one_person_brings_it_up_to_date(self, client: Client) -> None:
        client.post("/wish/", {"thing": "x"})
        assert SEEN in client.get("/wishes/mine/").cookies

    def test_without_one_it_is_not_begun_by_reading(self, client: Client) -> None:
        assert not client.get("/wishes/mine/").cookies

    def test_a_write_that_failed_behind_it_counts(self, client: Client, lag: Lag) -> None:
        client.raise_request_exception = False
        with lag():
            response = client.post("/wish/fails/", {"thing": "x"})
            assert response.status_code == 500
            assert COOKIE in response.cookies
            assert client.get("/wishes/").json() == ["x"]

    @pytest.mark.parametrize("forged", ["", "x", "default:AAAA", "default:AAAA:1tXYZ:abc", "+" * 5000, "%00"])
    def test_a_forged_one_says_nothing(self, client: Client, lag: Lag, forged: str) -> None:
        from project.models import Wish

        with lag():
            Wish.objects.using("direct").create(thing="x")
            client.cookies[COOKIE] = forged
            assert client.get("/wishes/").json() == ["x"], "as without one: strong"

    def test_an_old_one_says_nothing(self, client: Client, lag: Lag, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        client.post("/wish/", {"thing": "x"})
        later = time.time() + 301
        monkeypatch.setattr(time, "time", lambda: later)
        with recorded() as statements:
            client.get("/wishes/")
        assert [statement.level for statement in statements] == [None]

    def test_a_slow_reader_takes_nothing_from_a_writer_in_another_tab(self, client: Client, lag: Lag) -> None:
        """Its answer arrives later, and knows less."""
        client.post("/wish/", {"thing": "x"})
        with lag():
            slow = client.get("/wishes/mine/").cookies
            assert slow
            client.post("/wish/", {"thing": "y"})
            client.cookies.update(slow)
            assert client.get("/wishes/mine/").json() == ["x", "y"]

    def test_more_than_is_read_counts_as_everything(self, client: Client, lag: Lag) -> None:
        """Sixteen positions of others, which somebody's page has signed, must not hide the seventeenth."""
        others = "+".join(f"other{number}:a" for number in range(16))
        with override_settings(HIGHWATER={"CONSISTENCY": "eventual"}), lag():
            client.post("/wish/", {"thing": "x"})
            client.cookies[SEEN] = _Signer(int(time.time())).sign(others)
            assert client.get("/wishes/").json() == ["x"]

    def test_reading_does_not_make_it_last(self, client: Client, lag: Lag, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else who visits every day would have one for ever, and caches that look at cookies nothing to do."""
        import time

        start = time.time()
        client.post("/wish/", {"thing": "x"})
        for passed, left in ((200, 100), (290, 10)):
            monkeypatch.setattr(time, "time", lambda passed=passed: start + passed)
            morsel = client.get("/wishes/mine/").cookies[SEEN]
            assert left - 2 <= morsel["max-age"] <= left + 2
        monkeypatch.setattr(time, "time", lambda: start + 310)
        assert not client.get("/wishes/mine/").cookies
        assert client.post("/wish/", {"thing": "y"}).cookies[COOKIE]["max-age"] == 300

    def test_a_position_that_the_cluster_never_had_stops_nobody(self, client: Client, lag: Lag) -> None:
        """Signed by us, but of another cluster, or of a past that is gone."""
        import time

        from django_highwater.carrying import _Signer

        client.cookies[COOKIE] = _Signer(int(time.time())).sign("default:" + "A" * 64)
        client.post("/wish/", {"thing": "x"})
        assert client.get("/wishes/").json() == ["x"]


class TestHeader:
    """An API client's, which keeps no cookies."""

    def test_it_carries_on(self, site: None, lag: Lag) -> None:
        with lag():
            token = Client().post("/wish/", {"thing": "x"})[HEADER]
            response = Client().get("/wishes/", headers={HEADER: token})
        assert response.json() == ["x"]
        assert response[HEADER], "a newer one"
        assert not response.cookies
        assert response["Vary"] == HEADER

    def test_reads_are_cheap_with_it(self, site: None, lab: Any) -> None:
        token = Client().post("/wish/", {"thing": "x"})[HEADER]
        until_read_on_standby(lambda: Client().get("/wishes/", headers={HEADER: token}))
        with recorded() as statements:
            Client().get("/wishes/", headers={HEADER: token})
        assert [(statement.level, statement.is_on_primary) for statement in statements] == [("session", False)]

    def test_both_ways_can_be_off(self, client: Client) -> None:
        with override_settings(HIGHWATER={"COOKIE": None, "HEADER": None}):
            response = client.post("/wish/", {"thing": "x"})
        assert not response.cookies
        assert not response.has_header(HEADER)


class TestKey:
    """One user on several devices."""

    @pytest.fixture(autouse=True)
    def _named(self, site: None) -> Any:
        with override_settings(HIGHWATER={"KEY": "project.views.user_of"}):
            yield

    def test_what_one_device_wrote_the_other_sees(self, site: None, lag: Lag) -> None:
        """Also when the other has a position of its own, and so does not read strongly."""
        phone, laptop = Client(headers={"X-User": "0"}), Client(headers={"X-User": "0"})
        with lag():
            laptop.post("/wish/", {"thing": "x"})
            phone.post("/wish/", {"thing": "y"})
            assert laptop.get("/wishes/").json() == ["x", "y"]

    def test_a_view_that_fails_leaves_nobody_behind(self, site: None) -> None:
        from django.db import connection

        client = Client(headers={"X-User": "ann"}, raise_request_exception=False)
        assert client.post("/wish/fails/", {"thing": "x"}).status_code == 500
        Client().get("/wishes/")
        with connection.connection.cursor() as cursor:
            cursor.execute("SHOW highwater.session")
            assert tuple(cursor.fetchone()) == ("",)

    def test_the_recipe_for_apis(self, site: None, lab: Any, lag: Lag) -> None:
        """As docs/django-howto.md prints it: two devices of one user, which keep neither cookie nor header."""
        from types import SimpleNamespace

        from django.contrib.auth.models import User

        from django_highwater import identify
        from django_highwater.middleware import HighwaterMiddleware
        from project.models import Wish

        class Known:
            def authenticate(self, request: Any) -> Any:
                return User(pk=int(request.headers["Authorization"])), None

        section = HOWTO.read_text().partition("## Clients without cookies")[2]
        block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
        assert block
        names: dict[str, Any] = {"authentication": SimpleNamespace(TokenAuthentication=Known), "identify": identify}
        exec(block[1], names)

        def view(request: Any) -> HttpResponse:
            names["TokenAuthentication"]().authenticate(request)
            if request.method == "POST":
                Wish.objects.create(thing="x")
            return HttpResponse(str(Wish.objects.count()))

        def ask(method: str, user: str) -> str:
            request = getattr(RequestFactory(headers={"Authorization": user}), method)("/")
            response: Any = HighwaterMiddleware(view)(request)
            return str(response.content.decode())

        with override_settings(HIGHWATER={"CONSISTENCY": "session"}):
            # Whom Highwater does not know it shows everything at first.
            assert ask("get", "8") == "0"
            # Positions are upper bounds: something behind them has to arrive as well.
            lab.primary.rows("UPDATE counter SET v = v")
            until_read_on_standby(lambda: ask("get", "8"))
        with override_settings(HIGHWATER={"CONSISTENCY": "session"}), lag():
            assert ask("post", "7") == "1"
            assert [ask("get", user) for user in ("8", "7")] == ["0", "1"]

    def test_keys_that_nobody_thought_of(self, site: None, lag: Lag) -> None:
        for key in ("it's", "a\\", "' OR ''='", "x" * 500, ""):
            client = Client(headers={"X-User": key})
            client.post("/wish/", {"thing": "x"})
            assert "x" in client.get("/wishes/").json()

    def test_asynchronously(self, site: None, lag: Lag) -> None:
        from asgiref.sync import async_to_sync

        async def story() -> Any:
            one, other = AsyncClient(headers={"X-User": "7"}), AsyncClient(headers={"X-User": "7"})
            await other.post("/wish/async/", {"thing": "y"})
            await one.post("/wish/async/", {"thing": "x"})
            return (await other.get("/wishes/async/")).json()

        with lag():
            assert async_to_sync(story)() == ["y", "x"]


class TestAsync:
    """The same under ASGI."""

    def test_the_story(self, site: None, lag: Lag) -> None:
        from asgiref.sync import async_to_sync

        async def story() -> Any:
            client = AsyncClient()
            response = await client.post("/wish/async/", {"thing": "x"})
            assert COOKIE in response.cookies
            # A synchronous view behind an asynchronous middleware, with a transaction.
            await client.post("/wish/atomic/", {"thing": "y"})
            return (await client.get("/wishes/async/")).json()

        with lag():
            assert async_to_sync(story)() == ["x", "y"]

    def test_responses_that_are_read_while_they_are_sent(self, client: Client, lag: Lag) -> None:
        from asgiref.sync import async_to_sync

        async def story() -> list[bytes]:
            browser = AsyncClient()
            browser.cookies = client.cookies
            response = await browser.get("/wishes/streamed/async/")
            return [part async for part in response.streaming_content]

        with lag():
            client.post("/wish/", {"thing": "x"})
            assert client.get("/wishes/streamed/").getvalue() == b"wishes:x"
            assert async_to_sync(story)() == [b"x"]
