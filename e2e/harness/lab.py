"""A throw-away PostgreSQL cluster, driven through `highwater lab`, and direct connections to its servers.

Direct connections are the tests' own eyes: what they see does not depend on the proxy.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from .waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]


# Files in memory, where Linux has them, and how much of that must be free. A test with a cluster of its own writes some
# hundred megabytes that nobody reads.
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 4 << 30


def binary() -> Path:
    """The proxy's program: $HIGHWATER_BIN, else the development build."""
    return Path(os.environ.get("HIGHWATER_BIN", REPOSITORY / "target" / "debug" / "highwater")).resolve()


@dataclass(frozen=True)
class Server:
    """One PostgreSQL server of a lab."""

    name: str
    port: int
    lab: "Lab"
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        """What the proxy is given: the probing role."""
        return f"postgres://highwater:highwater@{self.host}:{self.port}/shop"

    def connect(self, database: str = "shop") -> psycopg.Connection[tuple[Any, ...]]:
        """A direct connection as superuser, in autocommit mode."""
        return psycopg.connect(host=self.host, port=self.port, user="postgres", dbname=database, autocommit=True)

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one statement directly and return its rows."""
        with self.connect() as connection:
            cursor = connection.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, *params: Any) -> Any:
        """The single value that a statement yields."""
        return self.rows(sql, *params)[0][0]

    @property
    def version(self) -> int:
        """The major version."""
        return int(self.value("SHOW server_version_num")) // 10000

    def is_up(self) -> bool:
        """Whether it accepts connections."""
        try:
            return bool(self.value("SELECT true"))
        except psycopg.OperationalError:
            return False

    def pause(self) -> None:
        """Freeze what a standby shows; return when it is frozen."""
        self.rows("SELECT pg_wal_replay_pause()")
        until(f"{self.name} to pause", lambda: self.value("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def resume(self) -> None:
        """Let a standby replay again."""
        self.rows("SELECT pg_wal_replay_resume()")

    def has_replayed(self, lsn: str) -> bool:
        """Whether a standby has replayed up to `lsn`."""
        return bool(self.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", lsn))

    def follow(self, upstream: "Server") -> None:
        """Let a standby stream from another one, without a slot."""
        self.setting("primary_slot_name", "")
        self.setting("primary_conninfo", f"host=127.0.0.1 port={upstream.port} user=postgres sslmode=disable")
        sql = "SELECT sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        until(f"{self.name} to follow {upstream.name}", lambda: (upstream.port,) in self.rows(sql))

    def setting(self, name: str, value: str) -> None:
        """Set a setting in this server's configuration and wait until new sessions see it; the empty text resets."""
        with self.connect() as connection:
            # ALTER SYSTEM takes no parameters.
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'" if value else f"ALTER SYSTEM RESET {name}")
        loaded = self.value("SELECT pg_conf_load_time()")
        self.rows("SELECT pg_reload_conf()")
        until(f"{self.name} to reload", lambda: self.value("SELECT pg_conf_load_time()") != loaded)

    def crash(self) -> None:
        """Kill the background writer: the server throws everybody out and recovers with an unchanged start time."""

        def writer() -> int | None:
            try:
                return self.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'")
            except (psycopg.OperationalError, IndexError):
                return None

        victim = writer()
        assert victim
        os.kill(victim, signal.SIGKILL)
        until(f"{self.name} to recover", lambda: writer() not in (None, victim))

    def kill(self) -> None:
        """End it by SIGKILL, with all its processes."""
        self.lab.command("kill", self.name)
        # As long as its parent has not collected its exit status, a new postmaster takes it for a running one.
        until(f"the processes of {self.name} to be gone", lambda: not self._has_process())

    def _has_process(self) -> bool:
        file = self.lab.folder / self.name / "postmaster.pid"
        return file.exists() and Path("/proc", file.read_text().split()[0]).exists()

    def revive(self) -> None:
        """Start it if it is down; wait if it is on its way."""
        if not self.is_up():
            if not self._has_process():
                self.start()
            until(f"{self.name} to be up", self.is_up)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self.lab.command("start", self.name)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        self.lab.command("stop", self.name)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Killed while the block runs, then up again."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def with_setting(self, name: str, value: str) -> Iterator[None]:
        """A setting that holds while the block runs."""
        self.setting(name, value)
        try:
            yield
        finally:
            self.setting(name, "")


class Lab:
    """A cluster that exists as long as this value is open, however this process ends.

    One that is brief lies in memory where it can; a commit on the others waits for a disk, as it does in earnest.
    """

    def __init__(self, standbys: int, settings: dict[str, str] | None = None, *, is_brief: bool = False) -> None:
        is_in_memory = is_brief and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_BYTES
        # Unix sockets lie in it, so its path must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="hw-e2e-", dir=_MEMORY if is_in_memory else None))
        # By server: the words that lead a command to where it has been moved.
        self.ways: dict[str, list[str]] = {}
        options = [f"--set={name}={value}" for name, value in (settings or {}).items()]
        self._guard = subprocess.Popen(
            ["sh", "-c", 'read -r line; "$1" lab down --dir "$2"', "guard", binary(), self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.command("up", "--standbys", str(standbys), *options)
        state = json.loads((self.folder / "lab.json").read_text())
        self.servers = [Server(server["name"], server["port"], self) for server in state["servers"]]

    def command(self, *words: str) -> None:
        """Run one command of `highwater lab`, where the server is whose name comes last."""
        command = [*self.ways.get(words[-1], []), str(binary()), "lab", *words, "--dir", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")

    @property
    def primary(self) -> Server:
        """The server that takes writes."""
        return self.servers[0]

    @property
    def standbys(self) -> list[Server]:
        """The hot standbys."""
        return self.servers[1:]

    def __getitem__(self, name: str) -> Server:
        return next(server for server in self.servers if server.name == name)

    def settle(self) -> None:
        """Wait until each standby has replayed all that is committed on the primary."""
        flushed = self.primary.value("SELECT pg_current_wal_flush_lsn()::text")
        for standby in self.standbys:
            until(f"{standby.name} to replay {flushed}", lambda standby=standby: standby.has_replayed(flushed))

    def calm(self) -> None:
        """Bring everything back to normal, whatever a test has left: all servers up, replaying, and level."""
        for server in self.servers:
            server.revive()
        for standby in self.standbys:
            standby.resume()
        self.settle()

    def close(self) -> None:
        """Remove the cluster. The end of this process does the same."""
        self._guard.communicate(timeout=300)
        if self.folder.exists():
            raise RuntimeError(f"the lab in {self.folder} could not be removed")


@contextmanager
def paused(*standbys: Server) -> Iterator[None]:
    """Standbys that show nothing new while the block runs: lag that depends on no timing."""
    try:
        for standby in standbys:
            standby.pause()
        yield
    finally:
        for standby in standbys:
            if standby.is_up():
                standby.resume()
