"""The first five minutes: a lab, one command with nothing but its URLs, and a driver."""

import psycopg

from conftest import StartProxy
from harness.lab import Lab


def test_urls_are_enough(lab: Lab, start_proxy: StartProxy) -> None:
    """No user and no password in the configuration: `app` is looked up, and its key opens the servers' connections."""
    proxy = start_proxy(sections=())
    for place in ("shop", *(f"shop@{server.name}" for server in lab.servers)):
        with psycopg.connect(**proxy.parameters(place), autocommit=True) as client:
            assert client.execute("SELECT current_user").fetchone() == ("app",)
    assert "WARN" not in proxy.log
