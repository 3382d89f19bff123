"""The cluster and the proxies that are tormented."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psycopg

from harness.lab import Lab, Server
from harness.proxy import Proxy
from harness.waiting import until

from .network import Network, Reader
from .workload import SCHEMA


class Stage:
    """A primary, two standbys, and proxies before them."""

    def __init__(self, folder: Path, counters: int, proxies: int, has_partitions: bool) -> None:
        self.folder = folder
        self.lab = Lab(standbys=2, settings={"listen_addresses": "*", "max_wal_senders": "20", "wal_keep_size": "1GB"})
        self.network = Network(self.lab, proxies) if has_partitions else None
        self.primary = self.lab.primary
        self.primary.rows(SCHEMA)
        self.primary.rows("INSERT INTO counter SELECT id, 0 FROM generate_series(0, %s) id", counters - 1)
        for standby in self.standbys:
            self.follow(standby, self.primary)
        self.lab.settle()
        self.proxies = [self._start(number, 0) for number in range(proxies)]

    def address(self, reader: Reader, server: Server) -> str:
        """Where this one reaches the server."""
        return self.network.address(reader, server) if self.network else server.host

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
