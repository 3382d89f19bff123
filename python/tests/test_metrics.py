"""What Prometheus is told of statements."""

from collections.abc import Iterator
from threading import Timer
from typing import Any

import pytest
from django.test import Client
from prometheus_client import CollectorRegistry, generate_latest

from django_highwater import consistency, seeing
from django_highwater.metrics import connect
from harness.lab import Lab, paused
from harness.proxy import Proxy
from watching import be_patient


@pytest.fixture
def registry(site: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """A project's own, of which nobody else knows."""
    monkeypatch.setattr(seeing, "_listeners", ())
    registry = CollectorRegistry()
    connect(registry)
    yield registry


def routes(registry: CollectorRegistry) -> dict[tuple[str, str, str], float]:
    """By alias, server and reason."""
    return {
        (sample.labels["alias"], sample.labels["server"], sample.labels["reason"]): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "highwater_routes_total"
    }


def wishes(using: str = "default") -> Any:
    """The manager."""
    from project.models import Wish

    return Wish.objects.using(using)


def test_statements_are_counted_by_where_they_ran_and_why(registry: CollectorRegistry, lab: Lab, proxy: Proxy) -> None:
    """In the words of the console."""
    connect(registry)
    with consistency("eventual"):
        wishes().create(thing="x")
        for _ in range(3):
            wishes().count()
    wishes("direct").count()
    counted = routes(registry)
    assert counted[("default", "primary", "must_run_on_primary")] == 1
    reads = {place: count for place, count in counted.items() if place[1].startswith("standby")}
    assert sum(reads.values()) == 3
    assert counted[("direct", "", "")] == 1
    known = {(row["server"], row["reason"]) for row in proxy.console("SHOW ROUTES")}
    assert {place[1:] for place in counted if place[0] == "default"} <= known


def test_waits_are_measured(registry: CollectorRegistry, lab: Lab, client: Client) -> None:
    be_patient()
    with paused(*lab.standbys):
        client.post("/wish/", {"thing": "x"})
        resuming = Timer(0.2, lambda: [standby.resume() for standby in lab.standbys])
        resuming.start()
        client.get("/wishes/")
        resuming.join()
    text = generate_latest(registry).decode()
    found = [line for line in text.splitlines() if line.startswith("highwater_wait_seconds_sum")]
    assert found
    assert 0.1 < sum(float(line.rpartition(" ")[2]) for line in found) < 5
