"""`commit_visibility = sync_only` is a promise of the operator; whoever may break it is noticed, and positions hold."""

from collections.abc import Callable, Iterator

import pytest

from conftest import Connect, StartProxy
from harness.connection import PATIENT, Connection
from harness.lab import Lab
from harness.proxy import Proxy
from harness.schema import Row
from harness.waiting import until

SESSION = {"highwater.consistency": "session"} | PATIENT


@pytest.fixture
def proxy(start_proxy: StartProxy) -> Proxy:
    """One that trusts flush positions."""
    return start_proxy(commit_visibility="sync_only")


def broken(proxy: Proxy) -> int:
    return proxy.stat("sync_only_broken")


def test_positions_are_right_while_it_is_kept(lab: Lab, proxy: Proxy, connect: Connect, row: Row) -> None:
    client = connect(proxy, settings=SESSION)
    for value in range(1, 30):
        row.write(client, value)
        assert row.read(client) == value
    assert broken(proxy) == 0
    assert client.server() != "primary"


def by_set(client: Connection) -> None:
    client.run("SET synchronous_commit = off")


def by_set_local(client: Connection) -> None:
    client.run("BEGIN")
    client.run("SET LOCAL synchronous_commit = off")
    client.run("COMMIT")
    # From now on it is not believed, whoever does it next.
    client.run("SET synchronous_commit = off")


def by_function(client: Connection) -> None:
    client.rows("SELECT set_config('synchronous_commit', 'off', false)")


@pytest.mark.parametrize("breach", [by_set, by_set_local, by_function])
def test_a_client_breaks_it(
    lab: Lab, proxy: Proxy, connect: Connect, row: Row, breach: Callable[[Connection], None]
) -> None:
    """What it commits asynchronously is seen by itself all the same."""
    client = connect(proxy, settings=SESSION)
    assert broken(proxy) == 0
    breach(client)
    assert broken(proxy) == 1
    with lab.primary.with_setting("wal_writer_delay", "2s"):
        for value in range(1, 10):
            row.write(client, value)
            assert row.read(client) == value
    assert "any is used" in proxy.log


def test_a_client_breaks_it_at_its_start(lab: Lab, proxy: Proxy, connect: Connect) -> None:
    connect(proxy, settings={"synchronous_commit": "off"})
    assert broken(proxy) == 1


@pytest.fixture
def lax_role(lab: Lab) -> Iterator[None]:
    """The application's role commits asynchronously unless somebody says otherwise."""
    lab.primary.rows("ALTER ROLE app SET synchronous_commit = off")
    yield
    lab.primary.rows("ALTER ROLE app RESET synchronous_commit")
    lab.settle()


@pytest.mark.usefixtures("lax_role")
def test_a_default_of_a_role_breaks_it(proxy: Proxy) -> None:
    until("it to be noticed", lambda: broken(proxy) == 1)


def test_a_default_that_comes_later_breaks_it(lab: Lab, proxy: Proxy) -> None:
    assert broken(proxy) == 0
    with lab.primary.with_setting("synchronous_commit", "off"):
        until("it to be noticed", lambda: broken(proxy) == 1)
