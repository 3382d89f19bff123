"""What the package costs: one ORM query through Highwater with it and without it, in turns, as a ratio.

    HIGHWATER_BIN=target/release/highwater PYTHONPATH=python/src:python/tests:e2e \\
        target/venv-package/bin/python python/overhead.py
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.lab import Lab
from harness.proxy import Proxy
from harness.schema import SCHEMA

ROUNDS = 75
QUERIES = 200


def microseconds(run: Callable[[], object]) -> float:
    """For one call, over many."""
    began = time.perf_counter()
    for _ in range(QUERIES):
        run()
    return (time.perf_counter() - began) / QUERIES * 1e6


def main() -> None:
    """Measure, and print."""
    lab = Lab(standbys=2)
    try:
        lab.primary.rows(SCHEMA)
        with tempfile.TemporaryDirectory() as folder:
            proxy = Proxy(Path(folder), lab.servers)
            proxy.until_it_sees(lab.servers)
            os.environ.update(PROXY_PORT=str(proxy.port), DJANGO_SETTINGS_MODULE="project.settings")
            measure(lab)
            proxy.stop()
    finally:
        lab.close()


def measure(lab: Lab) -> None:
    """In turns, because the machine's speed changes."""
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection

    from django_highwater import use_token
    from project.models import Wish

    # A level at which reads wait for nothing, said by the connection itself: the same with the package and without.
    connection.settings_dict["OPTIONS"] = {"options": "-c highwater.consistency=session"}
    call_command("migrate", verbosity=0)
    wish = Wish.objects.create(thing="lightsaber")
    lab.settle()

    def read() -> Wish:
        return Wish.objects.get(pk=wish.pk)

    ratios, times, requests = [], [], []
    with_it = list(connection.execute_wrappers)
    for _ in range(ROUNDS):
        connection.execute_wrappers = []
        without = microseconds(read)
        connection.execute_wrappers = with_it
        with use_token(""):
            times.append((without, microseconds(read)))
        ratios.append(times[-1][1] / without)

        def request() -> None:
            with use_token(""):
                read()

        requests.append(microseconds(request) / without)
    print(f"without the package {statistics.median(time for time, _ in times):.0f} us, with it", end=" ")
    print(f"{statistics.median(time for _, time in times):.0f} us: {statistics.median(ratios):.3f} times as long;")
    print(f"in a request of its own, whose session the connection is told: {statistics.median(requests):.3f} times.")


if __name__ == "__main__":
    main()
