"""One cluster and one proxy for all tests, fresh rows and connections for each. No test needs another."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import pytest

from harness.certificates import Authority
from harness.connection import Connection, Target
from harness.drivers import DRIVERS, Driver
from harness.guarded import Guarded
from harness.lab import Lab, Server
from harness.proxy import Proxy
from harness.schema import SCHEMA, Row
from harness.spread import apart

pytest_xdist_make_scheduler = apart("test_failover.py", "test_topology.py")

_ids = count(1)

ROWS_OF_CLUSTER = 60

# The longest test takes some seconds.
DEADLINE_SECONDS = 40


class Connect(Protocol):
    """Opens connections that are closed with the test; the keywords are those of `Target`."""

    def __call__(self, proxy: Proxy, **target: Any) -> Connection: ...


class StartProxy(Protocol):
    """Starts proxies that end with the test; the keywords are settings, and those of `Proxy`."""

    def __call__(self, *servers: Server | tuple[str, str], **settings: Any) -> Proxy: ...


@pytest.fixture(scope="session")
def _lab() -> Iterator[Lab]:
    lab = Lab(standbys=2)
    lab.primary.rows(SCHEMA)
    yield lab
    lab.close()


@pytest.fixture
def lab(_lab: Lab) -> Lab:
    """A primary and two standbys, all up and level."""
    _lab.calm()
    return _lab


@pytest.fixture(scope="session")
def other_lab() -> Iterator[Lab]:
    """Another cluster, of one server."""
    lab = Lab(standbys=0)
    lab.primary.rows(SCHEMA)
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the certificates that are good."""
    return Authority(tmp_path_factory.mktemp("authority"), "good")


@pytest.fixture(scope="session")
def _guarded(authority: Authority) -> Iterator[Guarded]:
    lab = Guarded(1, authority.issue("server"))
    lab.primary.rows(SCHEMA)
    lab.allow_lookup()
    yield lab
    lab.close()


@pytest.fixture
def guarded(_guarded: Guarded) -> Guarded:
    """A primary and a standby that ask for passwords and have TLS; the probing role may look passwords up."""
    _guarded.calm()
    return _guarded


@pytest.fixture
def before_guarded(guarded: Guarded, tmp_path: Path) -> Iterator[StartProxy]:
    """Proxies before that lab that know nobody's password; the keywords are settings, and those of `Proxy`."""
    yield from starting(tmp_path, guarded, settles=False, sections=())


@pytest.fixture(scope="session")
def _proxies() -> Iterator[list[Proxy]]:
    """The one proxy that tests share; another one when a test has ended it."""
    proxies: list[Proxy] = []
    yield proxies
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def proxy(lab: Lab, _proxies: list[Proxy], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy before the lab, with the settings that it has when nobody says anything."""
    if not _proxies or not _proxies[-1].is_running():
        _proxies[:] = [Proxy(tmp_path_factory.mktemp("proxy"), lab.servers)]
    _proxies[-1].until_it_sees(lab.servers)
    with _in_time(_proxies):
        yield _proxies[-1]


@contextmanager
def _in_time(proxies: list[Proxy]) -> Iterator[None]:
    """End the proxies when a test takes too long: a driver that waits for ever hears of no other timeout."""
    timer = threading.Timer(DEADLINE_SECONDS, lambda: [proxy.abort() for proxy in proxies])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@pytest.fixture
def start_proxy(lab: Lab, tmp_path: Path) -> Iterator[StartProxy]:
    """For tests that want a proxy of their own. Without servers: those of the lab."""
    yield from starting(tmp_path, lab, settles=True)


def starting(folder: Path, lab: Lab, settles: bool, **defaults: Any) -> Iterator[StartProxy]:
    """Proxies that end with the test; `settles` when `app` can tell whether they have found all servers."""
    proxies: list[Proxy] = []

    def start(*servers: Server | tuple[str, str], **settings: Any) -> Proxy:
        own = folder / f"proxy{len(proxies) + 1}"
        own.mkdir()
        settings = defaults | settings
        proxies.append(Proxy(own, servers or lab.servers, **settings))
        if not servers and settles:
            proxies[-1].until_it_sees(lab.servers)
        return proxies[-1]

    with _in_time(proxies):
        yield start
    for proxy in proxies:
        proxy.stop()


@pytest.fixture(params=DRIVERS, ids=[driver.name for driver in DRIVERS])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Each driver in turn."""
    return request.param


def _connecting(driver: Driver) -> Iterator[Connect]:
    connections: list[Connection] = []

    def connect(proxy: Proxy, **target: Any) -> Connection:
        connections.append(driver.open(Target(proxy.port, **target)))
        return connections[-1]

    yield connect
    for connection in connections:
        connection.close()


@pytest.fixture
def connect(driver: Driver) -> Iterator[Connect]:
    """Connections by each driver in turn."""
    yield from _connecting(driver)


@pytest.fixture
def plain() -> Iterator[Connect]:
    """Connections by one driver, where it does not matter which."""
    yield from _connecting(DRIVERS[1])


@pytest.fixture
def cluster() -> Iterator[Lab]:
    """A primary and two standbys for one test that changes what they are to each other, with rows numbered from 1."""
    lab = Lab(standbys=2, is_brief=True)
    lab.primary.rows(SCHEMA)
    lab.primary.rows("INSERT INTO counter SELECT id, 0 FROM generate_series(1, %s) id", ROWS_OF_CLUSTER)
    lab.settle()
    yield lab
    lab.close()


@pytest.fixture
def start(cluster: Lab, tmp_path: Path) -> Iterator[StartProxy]:
    """Starts proxies before that cluster."""
    yield from starting(tmp_path, cluster, settles=True)


@pytest.fixture
def row(lab: Lab) -> Row:
    """A row of this test's own, known to all servers."""
    row = Row(next(_ids))
    lab.primary.rows("INSERT INTO counter VALUES (%s, 0)", row.id)
    lab.settle()
    return row
