"""Two Highwaters before one cluster, in one HOST as libpq takes it: they share nothing but what requests carry."""

import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import OperationalError, close_old_connections, connection, connections
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from django_highwater import consistency, identify, use_token
from django_highwater.middleware import HighwaterMiddleware
from django_highwater.seeing import recorded
from harness.lab import Lab
from harness.proxy import Proxy
from harness.waiting import until
from watching import until_read_on_standby

Lag = Callable[..., Any]
Point = Callable[..., None]
# What is late is to be read, however slow this machine is.
PATIENT = {"options": "-c highwater.wait_budget=10s"}


@pytest.fixture
def two(lab: Lab, tmp_path: Any) -> Iterator[list[Proxy]]:
    """Fresh ones: no key is known to either."""
    proxies = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        proxies.append(Proxy(tmp_path / name, lab.servers))
        proxies[-1].until_it_sees(lab.servers)
    yield proxies
    for proxy in proxies:
        if proxy.is_running():
            proxy.stop()


@pytest.fixture
def point(site: None, two: list[Proxy]) -> Iterator[Point]:
    """Moves the site's one alias to these, in this order; libpq takes the first that answers."""
    settings = connections["default"].settings_dict
    before = {name: settings[name] for name in ("NAME", "HOST", "PORT", "OPTIONS")}

    def point(*proxies: Proxy, **options: str) -> None:
        forget()
        settings["HOST"] = ",".join("127.0.0.1" for _ in proxies)
        settings["PORT"] = ",".join(str(proxy.port) for proxy in proxies)
        settings["OPTIONS"] = options

    yield point
    forget()
    settings.update(before)


def forget() -> None:
    """As if the process began with the settings that come now."""
    connections["default"].close()
    del connections["default"]


def end(proxy: Proxy) -> None:
    """Whoever connects while its port is still open would not be led on to the next address."""
    proxy.abort()
    until("the process to be gone", lambda: not proxy.is_running())


def uses(proxy: Proxy) -> bool:
    """Whether the connection leads there."""
    pids = {int(row["pid"]) for row in proxy.console("SHOW CLIENTS")}
    raw = connection.connection
    return (raw.pgconn.backend_pid if hasattr(raw, "pgconn") else raw.get_backend_pid()) in pids


def things(client: Client) -> Any:
    """What the list shows; and between two requests Django looks after its connections."""
    close_old_connections()
    return client.get("/wishes/mine/").json()


class TestPosition:
    """It travels with the request."""

    def test_what_was_written_through_one_is_read_through_the_other(
        self, client: Client, two: list[Proxy], point: Point, lag: Lag
    ) -> None:
        one, other = two
        with lag():
            point(one, other)
            client.post("/wish/", {"thing": "x"})
            assert uses(one)
            point(other, one)
            with recorded() as statements:
                assert things(client) == ["x"]
            assert uses(other)
            assert {statement.level for statement in statements} == {"session"}
            client.post("/wish/", {"thing": "y"})
            point(one, other)
            assert things(client) == ["x", "y"], "and back"

    @pytest.mark.timeout(40)
    def test_one_that_never_answers_is_passed_over(self, client: Client, two: list[Proxy], point: Point) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            point(SimpleNamespace(port=silent.getsockname()[1]), two[1], connect_timeout="2")
            assert things(client) == []
            assert uses(two[1])

    @pytest.mark.parametrize("age", [0, None])
    def test_one_of_them_dies(
        self, client: Client, two: list[Proxy], point: Point, lag: Lag, age: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever keeps connections loses the one request that finds its connection broken; nobody his position."""
        point(*two)
        monkeypatch.setitem(connections["default"].settings_dict, "CONN_MAX_AGE", age)
        with lag():
            client.post("/wish/", {"thing": "x"})
            close_old_connections()
            end(two[0])
            if age is None:
                with pytest.raises(OperationalError):
                    things(client)
            with recorded() as statements:
                assert things(client) == ["x"]
            assert uses(two[1])
            assert {statement.level for statement in statements} == {"session"}

    def test_one_of_them_dies_and_connections_are_asked_first(
        self, client: Client, two: list[Proxy], point: Point, lag: Lag, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        point(*two)
        monkeypatch.setitem(connections["default"].settings_dict, "CONN_HEALTH_CHECKS", True)
        with lag():
            client.post("/wish/", {"thing": "x"})
            end(two[0])
            assert things(client) == ["x"]

    def test_one_of_them_dies_within_a_request_that_has_written(
        self, client: Client, two: list[Proxy], point: Point, lag: Lag
    ) -> None:
        """What it wrote nobody has heard: its bearer reads strongly."""
        from project.models import Wish

        def view(_request: Any) -> HttpResponse:
            Wish.objects.create(thing="x")
            end(two[0])
            with pytest.raises(OperationalError):
                Wish.objects.create(thing="y")
            return HttpResponse()

        point(*two)
        with lag(), override_settings(HIGHWATER={"CONSISTENCY": "session"}):
            response: Any = HighwaterMiddleware(view)(RequestFactory().post("/"))
            client.cookies = response.cookies
            with recorded() as statements:
                assert things(client) == ["x"]
            assert {statement.level for statement in statements} == {"strong"}


class TestKey:
    """What a key has seen is known to the one process that saw it."""

    @pytest.fixture(autouse=True)
    def _named(self, site: None) -> Iterator[None]:
        # Whoever brings no position is as cheap as he can be.
        with override_settings(HIGHWATER={"KEY": "project.views.user_of", "CONSISTENCY": "session"}):
            yield

    def test_the_other_device_comes_by_the_other_one(self, two: list[Proxy], point: Point, lag: Lag) -> None:
        """A key that has been there before, and has a position, is not taken for all that its user has seen since."""
        phone, laptop = Client(headers={"X-User": "0"}), Client(headers={"X-User": "0"})
        one, other = two
        point(other, one)
        laptop.post("/wish/", {"thing": "x"})
        until_read_on_standby(lambda: things(laptop))
        with lag():
            point(one, other)
            phone.post("/wish/", {"thing": "y"})
            point(other, one)
            assert things(laptop) == ["x", "y"]

    def test_nobody_else_is_made_to_pay(self, two: list[Proxy], point: Point, lag: Lag) -> None:
        """Neither whom nobody names, nor a level that promises nothing of the key."""
        from project.models import Wish

        point(*two, **PATIENT)
        with lag():
            Wish.objects.using("direct").create(thing="x")
            assert things(Client()) == []
            with use_token(""), consistency("eventual"):
                identify("ann")
                assert Wish.objects.count() == 0

    def test_one_process_alone_remembers(self, two: list[Proxy], point: Point, lag: Lag) -> None:
        """One address, no price."""
        phone, laptop = Client(headers={"X-User": "0"}), Client(headers={"X-User": "0"})
        with lag():
            point(two[0])
            phone.post("/wish/", {"thing": "x"})
            with recorded() as statements:
                assert things(laptop) == ["x"]
            assert {statement.level for statement in statements} == {"session"}

    def test_the_checks_say_what_it_costs(self, two: list[Proxy], point: Point) -> None:
        point(two[0])
        assert "I002" not in checked()
        point(*two)
        assert "I002" in checked()
        with override_settings(HIGHWATER={}):
            assert "I002" not in checked()


def checked() -> set[str]:
    """What `manage.py check` says, by its numbers."""
    return {str(message.id).removeprefix("highwater.") for message in run_checks(tags=["highwater"])}


class TestSessionAttributes:
    """libpq's `target_session_attrs`: whichever server answers, Highwater is one that takes writes."""

    @pytest.mark.parametrize("wanted", ["any", "read-write", "primary", "prefer-standby"])
    def test_those_that_ask_for_what_it_is(self, two: list[Proxy], point: Point, wanted: str) -> None:
        from project.models import Wish

        point(*two, target_session_attrs=wanted)
        Wish.objects.create(thing="x")
        assert Wish.objects.count() == 1
        assert uses(two[0])

    @pytest.mark.parametrize(
        ("wanted", "complaint"), [("read-only", "session is not read-only"), ("standby", "not in hot standby mode")]
    )
    def test_those_that_ask_for_what_it_is_not(
        self, two: list[Proxy], point: Point, wanted: str, complaint: str
    ) -> None:
        """Also where it has been told to choose a replica."""
        point(*two, target_session_attrs=wanted)
        for name in ("shop", "shop@replica"):
            connection.settings_dict["NAME"] = name
            with pytest.raises(OperationalError, match=complaint):
                connection.ensure_connection()
