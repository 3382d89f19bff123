"""A cluster with two replicas, Highwater before it, and the shop on both, until Ctrl-C.

Run it as `cargo xtask shop`, which builds what it needs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from harness.lab import Lab, binary
from harness.proxy import Proxy
from harness.schema import SCHEMA
from harness.waiting import until

SHOP = Path(__file__).resolve().parent


@dataclass
class Shop:
    """A running shop."""

    url: str
    lab: Lab
    proxy: Proxy
    environment: dict[str, str]


@contextmanager
def running(port: int, folder: Path, log: Path | None = None) -> Iterator[Shop]:
    """The shop while the block runs; its server writes to `log`, or to where this program does."""
    lab = Lab(standbys=2)
    try:
        # The demonstration's functions do no harm; the harness looks for them.
        lab.primary.rows(SCHEMA)
        proxy = Proxy(folder, lab.servers)
        proxy.until_it_sees(lab.servers)
        ports = {"SHOP_PORT": proxy.port, "SHOP_PRIMARY_PORT": lab.primary.port}
        ports |= {f"SHOP_REPLICA{number}_PORT": server.port for number, server in enumerate(lab.standbys, 1)}
        environment = os.environ | {name: str(value) for name, value in ports.items()}
        # The server runs in the shop's own folder, and needs what this program needs.
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
        environment |= {"SHOP_LAB": str(lab.folder), "HIGHWATER_BIN": str(binary()), "SHOP_DEBUG": "1"}
        for command in (["migrate", "--verbosity", "0"], ["seed"]):
            subprocess.run([sys.executable, "manage.py", *command], cwd=SHOP, env=environment, check=True)
        lab.settle()
        with _server(port, environment, log) as url:
            yield Shop(url, lab, proxy, environment)
        proxy.stop()
    finally:
        lab.close()


@contextmanager
def _server(port: int, environment: dict[str, str], log: Path | None) -> Iterator[str]:
    command = [sys.executable, "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"]
    output = log.open("w") if log else None
    server = subprocess.Popen(command, cwd=SHOP, env=environment, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}/"
    try:
        until("the shop to answer", lambda: _answers(url))
        yield url
    finally:
        server.terminate()
        server.wait(timeout=15)
        if output:
            output.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def main() -> None:
    """Run the shop until somebody has seen enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--port", type=int, default=8000, help="where the shop listens on 127.0.0.1 (default: %(default)s)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(options.port, Path(folder)) as shop:
        print(f"The shop is open: {shop.url} (ann, bob or admin; secret). Ctrl-C closes it.", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        print("Closing.")


if __name__ == "__main__":
    main()
