"""pytest: markers and fixtures for `django_highwater.testing`.

It is there in every run of pytest for which the package is installed, also of projects that have nothing to do with
Django. So it imports nothing of Django's before a test asks for something of it.
"""

from __future__ import annotations

import inspect
import sys
import unittest
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from typing import Any, cast

import pytest

_STRICT = "highwater_strict"
_LAG = "highwater_lag"
_OPTION = "--highwater-strict"
# pytest-django's, whatever else a test asks for.
_DATABASES = frozenset(
    ["db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback", "live_server"]
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--highwater-strict`."""
    group = parser.getgroup("highwater", "Highwater")
    group.addoption(
        _OPTION,
        action="store_true",
        help="let all tests that have a database fail at reads that would be stale if replicas were late",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    for line in (
        f"{_STRICT}: the test fails at reads that would be stale if replicas were late.",
        f"{_LAG}(using='default'): in the test, reads that may be late see the state at its beginning.",
    ):
        config.addinivalue_line("markers", line)


@pytest.fixture
def assert_routes() -> Callable[..., AbstractContextManager[None]]:
    """`django_highwater.testing.assert_routes`."""
    _need_django()
    from . import testing

    return testing.assert_routes


@pytest.fixture
def simulated_lag() -> Callable[..., AbstractContextManager[None]]:
    """`django_highwater.testing.simulated_lag`."""
    _need_django()
    from . import testing

    return testing.simulated_lag


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Fixtures are there by now, and with them whatever makes databases accessible."""
    with _blocks(pyfuncitem):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test of unittest begins its transaction, and its `setUp`, within the call: the test method is what counts."""
    if isinstance(item, pytest.Function) and item.cls and issubclass(item.cls, unittest.TestCase) and _is_meant(item):
        # pytest takes the one, pytest-django and unittest the other.
        item.obj = _within(item, item.obj)
        setattr(cast("object", item.instance), item.name, item.obj)
    return (yield)


def _within(item: pytest.Function, test: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(test):
        from asgiref.sync import async_to_sync

        # As Django runs it, but from within the blocks: its connections are those of this thread.
        run: Callable[..., Any] = async_to_sync(test)
    else:
        run = test

    @wraps(test)
    def called(*args: Any, **kwargs: Any) -> Any:
        with _blocks(item):
            return run(*args, **kwargs)

    return called


def _is_meant(item: pytest.Function) -> bool:
    return _is_strict(item) or item.get_closest_marker(_LAG) is not None


@contextmanager
def _blocks(item: pytest.Function) -> Generator[None]:
    """What the test's markers and the command line ask for."""
    with ExitStack() as stack:
        if _is_strict(item):
            _need_django()
            from .testing import strict

            stack.enter_context(strict())
        lag = item.get_closest_marker(_LAG)
        if lag is not None:
            _need_django()
            stack.enter_context(_lag(**lag.kwargs))
        yield


def _lag(using: str = "default") -> AbstractContextManager[None]:
    from django.db import connections

    from .testing import simulated_lag

    if connections[using].in_atomic_block:
        pytest.fail(
            f"{_LAG} has no effect in a transaction: use transactional_db, or TransactionTestCase", pytrace=False
        )
    return simulated_lag(using=using)


def _is_strict(item: pytest.Function) -> bool:
    if item.get_closest_marker(_STRICT) is not None:
        return True
    return bool(item.config.getoption(_OPTION)) and _has_database(item)


def _has_database(item: pytest.Function) -> bool:
    if item.cls and "django.test" in sys.modules:
        from django.test import SimpleTestCase

        if issubclass(item.cls, SimpleTestCase):
            return bool(item.cls.databases)
    return item.get_closest_marker("django_db") is not None or not _DATABASES.isdisjoint(item.fixturenames)


def _need_django() -> None:
    from django.apps import apps

    if not apps.ready:
        pytest.fail(
            "Django is not set up: django.setup() in conftest.py does it, and so does pytest-django", pytrace=False
        )
