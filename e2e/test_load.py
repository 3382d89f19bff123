"""What the promise costs the servers: probes are bounded whatever clients do."""

import threading
import time

from conftest import Connect, StartProxy
from harness.lab import Lab
from harness.schema import Row

# Long enough to tell a rate, short enough for a test.
SECONDS = 1.5


def test_probe_load_is_bounded(lab: Lab, start_proxy: StartProxy, plain: Connect, row: Row) -> None:
    proxy = start_proxy(probe_gap="5ms")
    clients = [plain(proxy) for _ in range(4)]
    reads = [0] * len(clients)
    # What is counted lies between the two looks: the clock runs around both.
    began = time.monotonic()
    before = probes(proxy.console("SHOW SERVERS"))
    end = began + SECONDS

    def read(index: int) -> None:
        while time.monotonic() < end:
            row.read(clients[index])
            reads[index] += 1

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after, seconds = probes(proxy.console("SHOW SERVERS")), time.monotonic() - began
    sent = {name: after[name] - before[name] for name in after}
    # One for each gap, and a hundred at once.
    assert all(count <= 200 * seconds + 100 for count in sent.values()), sent
    # The control: there was something to probe for.
    assert sum(reads) > 100
    assert sent["primary"] > 100 + 20 * seconds


def probes(servers: list[dict[str, str]]) -> dict[str, int]:
    """How often each server has been probed."""
    return {server["name"]: int(server["probes"]) for server in servers}


def test_an_idle_proxy_hardly_probes(lab: Lab, start_proxy: StartProxy, plain: Connect) -> None:
    proxy = start_proxy(probe_interval_idle="10s", evidence_age_max="30s")
    before = probes(proxy.console("SHOW SERVERS"))
    began = time.monotonic()
    client = plain(proxy, database="shop@primary", settings={"highwater.consistency": "eventual"})
    # Something to do meanwhile, on a server that is asked without any position.
    client.rows("SELECT pg_sleep(1)")
    after = probes(proxy.console("SHOW SERVERS"))
    assert time.monotonic() - began > 1
    assert all(after[name] - before[name] <= 20 for name in ("standby1", "standby2")), (before, after)
