"""A cluster with two standbys, Highwater before it, and a site on both: once for all tests, empty tables for each."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from harness.lab import Lab, paused
from harness.proxy import Proxy
from harness.schema import SCHEMA
from harness.spread import apart

# Django's runner and pytest-django run those.
collect_ignore = ["site_tests", "replica_tests", "serialized_tests"]
pytest_xdist_make_scheduler = apart("test_faults.py")


@pytest.fixture(scope="session")
def _lab() -> Iterator[Lab]:
    lab = Lab(standbys=2)
    lab.primary.rows(SCHEMA)
    lab.primary.rows("ALTER ROLE app CREATEDB")
    lab.settle()
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def proxy(_lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Highwater as it is when nobody says anything."""
    proxy = Proxy(tmp_path_factory.mktemp("proxy"), _lab.servers)
    proxy.until_it_sees(_lab.servers)
    yield proxy
    proxy.stop()


@contextmanager
def _without_psycopg() -> Iterator[None]:
    """Django takes psycopg2 where it finds no psycopg 3. The tests themselves use that one."""
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "psycopg"}
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.modules.update(hidden)


@pytest.fixture(scope="session")
def _django(_lab: Lab, proxy: Proxy) -> None:
    import django
    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    replicas = {f"REPLICA{number}_PORT": server.port for number, server in enumerate(_lab.standbys, 1)}
    ports = {"PROXY_PORT": proxy.port, "PRIMARY_PORT": _lab.primary.port, **replicas}
    os.environ.update({name: str(port) for name, port in ports.items()})
    os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
    if os.environ.get("DRIVER") == "psycopg2":
        with _without_psycopg():
            django.setup()
            from django.db.backends.postgresql.base import Database
        assert Database.__name__ == "psycopg2"
    else:
        django.setup()
    setup_test_environment()
    call_command("migrate", verbosity=0)
    _lab.settle()


@pytest.fixture
def lab(_lab: Lab) -> Lab:
    """All servers up and level."""
    _lab.calm()
    return _lab


@pytest.fixture
def site(lab: Lab, _django: None) -> Iterator[None]:
    """The site, with nothing in its tables, seen so by all servers."""
    from django.apps import apps
    from django.db import connections

    tables = [model._meta.db_table for model in apps.get_models() if model._meta.app_label != "contenttypes"]
    lab.primary.rows(f"TRUNCATE {', '.join(tables)} CASCADE")
    lab.settle()
    yield
    connections.close_all()


@pytest.fixture
def lag(lab: Lab, site: None) -> Callable[..., Any]:
    """Standbys that show nothing new while the block runs: all of them, or those that are named."""

    @contextmanager
    def lagging(*numbers: int) -> Iterator[None]:
        lab.settle()
        with paused(*(lab.standbys[number - 1] for number in numbers or (1, 2))):
            yield

    return lagging


@pytest.fixture
def article(site: None) -> Iterator[None]:
    """The article's router in the place of Highwater."""
    from django.test import override_settings

    with ExitStack() as stack:
        stack.enter_context(override_settings(DATABASE_ROUTERS=["project.article.PrimaryReplicaRouter"]))
        yield


@pytest.fixture
def client(site: None) -> Any:
    """A browser."""
    from django.test import Client

    return Client()
