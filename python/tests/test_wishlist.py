"""A Rust service beside the Django site, `crates/client/examples/wishlist.rs`: the same table, the same secret.

Requests that bring no position read `eventual` on either side, and standbys lag: whoever sees the wish has been known.
"""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from django.test import Client, override_settings

from django_highwater.carrying import _Signer
from harness.lab import binary
from harness.proxy import Proxy, _end_with_parent
from harness.waiting import until

Lag = Callable[..., Any]

COOKIE = "highwater"
SEEN = f"{COOKIE}_seen"
HEADER = "Highwater-Token"
# By each of the crate's drivers.
LISTS = ["/wishes/", "/sqlx/wishes/", "/diesel/wishes/"]


class Answer(NamedTuple):
    """What a browser gets."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    cookies: dict[str, str]

    @property
    def wishes(self) -> Any:
        """The list."""
        assert self.status == 200, self
        return json.loads(self.body)


class _Direct(urllib.request.HTTPRedirectHandler):
    """Whoever follows a redirect would lose its cookies."""

    def redirect_request(self, *_args: Any) -> None:
        return None


class Service:
    """The program, as a process of its own."""

    def __init__(self, url: str, **environment: str) -> None:
        own = {"DATABASE_URL": url, "WISHES": "project_wish", "SECRET_KEY": "for tests alone", **environment}
        self._process = subprocess.Popen(
            [binary().parent / "examples" / "wishlist"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **own},
            preexec_fn=_end_with_parent,
        )
        assert self._process.stdout
        self._address = self._process.stdout.readline().split()[-1]

    def get(self, path: str, **headers: str) -> Answer:
        """Look at a list."""
        return self._ask(path, None, headers)

    def post(self, path: str, thing: str, **headers: str) -> Answer:
        """Add to it."""
        return self._ask(path, urlencode({"thing": thing}).encode(), headers)

    def _ask(self, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://{self._address}{path}", data, named)
        try:
            response = urllib.request.build_opener(_Direct).open(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            cookies = SimpleCookie("; ".join(response.headers.get_all("Set-Cookie", [])))
            given = {name: morsel.value for name, morsel in cookies.items()}
            return Answer(response.status, response.headers, response.read(), given)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.communicate(timeout=15)


def brought(cookies: Mapping[str, str]) -> str:
    """A request's header."""
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


@pytest.fixture(scope="module")
def _service(_django: None, proxy: Proxy) -> Iterator[Service]:
    service = Service(f"postgres://app:app@127.0.0.1:{proxy.port}/shop", CONSISTENCY="eventual")
    yield service
    service.stop()


@pytest.fixture
def service(site: None, _service: Service) -> Iterator[Service]:
    """The service; and the site with the same level."""
    with override_settings(HIGHWATER={"CONSISTENCY": "eventual"}):
        yield _service


@pytest.mark.parametrize("path", LISTS)
class TestOneUser:
    """Of both programs."""

    def test_what_the_service_wrote_the_site_shows(self, service: Service, client: Client, lag: Lag, path: str) -> None:
        with lag():
            answer = service.post(path, "lightsaber")
            assert (answer.status, answer.headers["Location"]) == (303, path)
            assert Client().get("/wishes/").json() == [], "who is not known"
            client.cookies[COOKIE] = answer.cookies[COOKIE]
            assert client.get("/wishes/").json() == ["lightsaber"]

    def test_what_the_site_wrote_the_service_shows(self, service: Service, client: Client, lag: Lag, path: str) -> None:
        with lag():
            client.post("/wish/", {"thing": "lightsaber"})
            assert service.get(path).wishes == [], "who is not known"
            cookie = brought({COOKIE: client.cookies[COOKIE].value})
            assert service.get(path, Cookie=cookie).wishes == ["lightsaber"]

    def test_by_header(self, service: Service, lag: Lag, path: str) -> None:
        with lag():
            token = service.post(path, "lightsaber").headers[HEADER]
            assert Client().get("/wishes/", headers={HEADER: token}).json() == ["lightsaber"]
            answer = service.get(path, Highwater_Token=token)
        assert answer.wishes == ["lightsaber"]
        assert not answer.cookies
        assert answer.headers["Vary"].lower() == HEADER.lower()
        assert answer.headers[HEADER], "a newer one"

    def test_who_only_reads_gets_none(self, service: Service, path: str) -> None:
        answer = service.get(path)
        assert answer.wishes == []
        assert not answer.cookies
        assert HEADER not in answer.headers
        assert "Vary" not in answer.headers

    def test_a_forged_one_says_nothing(self, service: Service, lag: Lag, path: str) -> None:
        with lag():
            cookie = service.post(path, "lightsaber").cookies[COOKIE]
            assert service.get(path, Cookie=brought({COOKIE: cookie[:-1]})).wishes == []
            assert service.get(path, Cookie=brought({COOKIE: cookie})).wishes == ["lightsaber"]

    def test_reads_are_on_standbys_when_those_have_it(
        self, service: Service, lab: Any, proxy: Proxy, path: str
    ) -> None:
        cookie = brought(service.post(path, "lightsaber").cookies)
        lab.settle()

        def on_primary() -> int:
            rows = proxy.console("SHOW ROUTES")
            return sum(int(row["count"]) for row in rows if row["server"] == lab.primary.name)

        def is_on_standby() -> bool:
            before = on_primary()
            assert service.get(path, Cookie=cookie).wishes == ["lightsaber"]
            return on_primary() == before

        until("a standby to answer", is_on_standby)


@pytest.mark.parametrize("path", LISTS)
def test_users_of_one_connection_never_get_each_others_position(service: Service, lag: Lag, path: str) -> None:
    """The service has one for all of them: what a stranger is shown, and what somebody brings, is as it was before."""
    bob = brought(service.post(path, "bob's").cookies)
    with lag():
        for count in range(1, 6):
            ann = service.post(path, f"ann's {count}").cookies
            assert len(service.get(path, Cookie=brought(ann)).wishes) == 1 + count
            assert service.get(path).wishes == ["bob's"], "a stranger"
            assert service.get(path, Cookie=bob).wishes == ["bob's"], "who has a position of his own"


def text(cookies: Mapping[str, str]) -> str:
    """What a cookie says."""
    return _Signer.verified(cookies[COOKIE], 300)[0]


@pytest.mark.parametrize("path", LISTS)
def test_a_connection_that_breaks_makes_reads_strong(
    service: Service, client: Client, lab: Any, proxy: Proxy, lag: Lag, path: str
) -> None:
    """While a write of the session waits for a lock: nobody will know whether it was done."""
    with lag(), ThreadPoolExecutor() as pool:
        with lab.primary.connect() as other, other.transaction():
            other.execute("LOCK project_wish IN SHARE MODE")
            writing = pool.submit(service.post, path, "lightsaber")
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT%'"
            until("the write to wait", lambda: lab.primary.value(waits))
            clients = proxy.console("SHOW CLIENTS")
            (victim,) = (row for row in clients if (row["database"], row["state"]) == ("shop", "active"))
            proxy.console(f"KILL {victim['pid']}")
            broken = writing.result(timeout=30)
        assert broken.status == 500
        assert text(broken.cookies) == "default:."
        lab.primary.rows("INSERT INTO project_wish (thing) VALUES ('blaster')")
        assert "blaster" not in service.get(path).wishes, "who is not known"
        assert "blaster" in service.get(path, Cookie=brought(broken.cookies)).wishes
        client.cookies[COOKIE] = broken.cookies[COOKIE]
        assert "blaster" in client.get("/wishes/").json()


def test_a_pool_of_sqlx_gets_its_connection_back_as_it_was(service: Service, proxy: Proxy) -> None:
    """Whoever takes it from there without the crate is nobody's session, at the level of everybody."""
    url = f"postgres://app:app@127.0.0.1:{proxy.port}/shop?application_name=own"
    own = Service(url, CONSISTENCY="eventual")
    try:
        known = own.post("/sqlx/wishes/", "lightsaber").cookies
        assert own.get("/sqlx/wishes/", Cookie=brought(known)).wishes == ["lightsaber"]
        rows = proxy.console("SHOW CLIENTS")
        # The other driver's connection has not run anything.
        (row,) = (row for row in rows if row["application"] == "own" and row["last_route"])
        assert (row["level"], row["session"]) == ("strong", "")
    finally:
        own.stop()


@pytest.mark.parametrize("path", LISTS)
def test_before_plain_postgresql_it_does_nothing(service: Service, lab: Any, path: str) -> None:
    """But a position that was brought does not cover what is written there."""
    known = service.post(path, "lightsaber").cookies
    plain = Service(f"postgres://app:app@127.0.0.1:{lab.primary.port}/shop")
    try:
        written = plain.post(path, "blaster")
        assert written.status == 303
        assert not written.cookies
        assert HEADER not in written.headers
        assert plain.get(path).wishes == ["lightsaber", "blaster"]
        assert text(plain.post(path, "hoverboard", Cookie=brought(known)).cookies) == "default:."
    finally:
        plain.stop()
