"""What tests look at besides answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections

from django_highwater import driver
from django_highwater.seeing import recorded
from harness.waiting import until


def until_read_on_standby(read: Callable[[], Any]) -> None:
    """Read until a standby answers: Highwater has heard by then that it has all that this reader must see."""

    def is_on_standby() -> bool:
        with recorded() as statements:
            read()
        return not any(statement.is_on_primary for statement in statements)

    until("a standby to answer", is_on_standby)


def be_patient(alias: str = "default") -> None:
    """Let reads of this connection wait for standbys longer than a site would: machines of tests are slow."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SET highwater.wait_budget = '10s'")


@contextmanager
def patient(alias: str = "default") -> Iterator[None]:
    """The same while the block runs: what is read in it is to come from a standby, however late that is."""
    be_patient(alias)
    yield
    with connections[alias].cursor() as cursor:
        cursor.execute("SET highwater.wait_budget TO DEFAULT")


@contextmanager
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the package says to connections while the block runs: a round trip to Highwater each."""
    texts: list[str] = []
    with monkeypatch.context() as patch:
        for kind in (driver.Psycopg, driver.Psycopg2):

            def run(self: Any, text: str, own: Any = kind._run) -> Any:
                texts.append(text)
                return own(self, text)

            patch.setattr(kind, "_run", run)
        yield texts


@contextmanager
def pooled() -> Iterator[Any]:
    """Another alias for the same database, with the driver's pool of one connection."""
    settings = {**connections.settings["default"], "CONN_MAX_AGE": 0}
    settings["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 1}}
    connections.settings["pooled"] = settings
    try:
        yield connections["pooled"]
    finally:
        connections["pooled"].close()
        connections["pooled"].close_pool()
        del connections["pooled"], connections.settings["pooled"]
