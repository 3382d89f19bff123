"""The cluster and the proxies that are tormented, in a network namespace of their own.

Each proxy and each standby reaches each server by an address that nobody else uses, so that the packets between any two
can be dropped, or led elsewhere, while all others and our own eyes go on.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from harness.lab import Lab, Server
from harness.proxy import Proxy
from harness.waiting import until

from .workload import SCHEMA

_INSIDE = "HIGHWATER_TORTURE_INSIDE"
_RULES = """
add table inet torture
add set inet torture gone { type ipv4_addr; }
add chain inet torture input { type filter hook input priority 0; }
add rule inet torture input ip daddr @gone drop
add rule inet torture input ip saddr @gone drop
add table ip torture
add map ip torture led { type ipv4_addr . inet_service : ipv4_addr . inet_service ; }
add chain ip torture output { type nat hook output priority -100; }
add rule ip torture output dnat to ip daddr . tcp dport map @led
"""

# Who wants to reach a server: a proxy by its number, or a standby.
Reader = int | Server


def enter_namespace() -> bool:
    """Start again inside a network namespace; whether we are in one. Where none can be had there are no partitions."""
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)
        return True
    if os.geteuid() != 0 or not all(shutil.which(program) for program in ("unshare", "ip", "nft")):
        print("no network namespace (it takes root, iproute2 and nftables): this run has no partitions", flush=True)
        return False
    environment = {**os.environ, _INSIDE: "1"}
    return os.execvpe("unshare", ["unshare", "--net", sys.executable, "-m", "torture", *sys.argv[1:]], environment)


class Stage:
    """A primary, two standbys, and proxies before them."""

    def __init__(self, folder: Path, counters: int, proxies: int, has_partitions: bool) -> None:
        self.folder = folder
        self.has_partitions = has_partitions
        self.lab = Lab(standbys=2, settings={"listen_addresses": "*", "max_wal_senders": "20", "wal_keep_size": "1GB"})
        self.primary = self.lab.primary
        self.primary.rows(SCHEMA)
        self.primary.rows("INSERT INTO counter SELECT id, 0 FROM generate_series(0, %s) id", counters - 1)
        self.lab.settle()
        for standby in self.standbys:
            self.follow(standby, self.primary)
        self.proxies = [self._start(number, 0) for number in range(proxies)]

    def address(self, reader: Reader, server: Server) -> str:
        """Where this one reaches the server."""
        if not self.has_partitions:
            return "127.0.0.1"
        row = 100 + self.lab.servers.index(reader) if isinstance(reader, Server) else 10 + reader
        return f"127.0.{row}.{self.lab.servers.index(server) + 1}"

    @property
    def readers(self) -> Sequence[int]:
        """All proxies."""
        return range(len(self.proxies))

    def follow(self, standby: Server, upstream: Server) -> None:
        """Let a standby stream from another server over the link between the two."""
        host = self.address(standby, upstream)
        if f"host={host} port={upstream.port} " in standby.value("SHOW primary_conninfo"):
            return
        # The primary has a slot for each; a standby has none for another one.
        standby.setting("primary_slot_name", standby.name if upstream is self.primary else "")
        about = f"user=postgres sslmode=disable application_name={standby.name}"
        standby.setting("primary_conninfo", f"host={host} port={upstream.port} {about}")

    def _start(self, number: int, port: int) -> Proxy:
        folder = self.folder / f"proxy{number}"
        folder.mkdir(exist_ok=True)
        servers = [
            (it.name, f"postgres://highwater:highwater@{self.address(number, it)}:{it.port}/shop")
            for it in self.lab.servers
        ]
        # Some tell losses as errors.
        losses = "error" if number % 2 else "warning"
        return Proxy(folder, servers, listen=[f"127.0.0.1:{port}"], lost_writes=losses)

    def restart_proxy(self, number: int) -> None:
        """Kill it and start it again where it was."""
        old = self.proxies[number]
        old.abort()
        until("the proxy to be gone", lambda: not old.is_running())
        self.proxies[number] = self._start(number, old.port)

    @property
    def standbys(self) -> list[Server]:
        """Those that are standbys now."""
        return [server for server in self.lab.servers if server is not self.primary]

    def counters(self, server: Server | None = None) -> list[int]:
        """All counters, by our own eyes."""
        return list((server or self.primary).value("SELECT array_agg(v ORDER BY id) FROM counter"))

    @contextmanager
    def cut(self, server: Server, readers: Sequence[Reader]) -> Iterator[None]:
        """Drop what these and the server send to each other while the block runs."""
        links = ", ".join(self.address(reader, server) for reader in readers)
        with self._element("inet torture gone", links):
            yield

    @contextmanager
    def swapped(self, one: Server, other: Server) -> Iterator[None]:
        """New connections of proxies to one of the two lead to the other one while the block runs."""
        places = [
            [f"{self.address(reader, server)} . {server.port}" for server in (one, other)] for reader in self.readers
        ]
        led = ", ".join(f"{here} : {there}, {there} : {here}" for here, there in places)
        with self._element("ip torture led", led):
            yield

    @contextmanager
    def _element(self, where: str, what: str) -> Iterator[None]:
        element = f"element {where} {{ {what} }}"
        subprocess.run(["nft", f"add {element}"], check=True)
        try:
            yield
        finally:
            subprocess.run(["nft", f"delete {element}"], check=True)

    def lag_bytes(self) -> dict[str, int | None]:
        """How far the standbys are behind, by our own eyes; `None` for one that does not say."""
        found: dict[str, int | None] = dict.fromkeys((standby.name for standby in self.standbys), None)
        try:
            head = self.primary.value("SELECT pg_current_wal_insert_lsn() - '0/0'")
        except psycopg.Error:
            return found
        for standby in self.standbys:
            with suppress(psycopg.Error):
                replayed = standby.value("SELECT pg_last_wal_replay_lsn() - '0/0'")
                found[standby.name] = None if replayed is None else int(head - replayed)
        return found

    def close(self) -> None:
        """End all of it."""
        for proxy in self.proxies:
            proxy.abort()
        self.lab.close()
