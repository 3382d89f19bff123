"""The proxy as a process: started with a configuration file, observed through its log, its console and /proc."""

import ctypes
import json
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from .lab import Server, binary
from .waiting import until

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Let the kernel end the proxy when the tests' process is gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


Section = tuple[str, dict[str, Any]]

APP: Section = ("user", {"name": "app", "password": "app"})


def toml(settings: dict[str, Any], servers: Sequence[tuple[str, str]], sections: Sequence[Section]) -> str:
    """A configuration file's text. JSON's texts, numbers and lists are TOML's."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
    for kind, entries in [*(("server", {"name": name, "url": url}) for name, url in servers), *sections]:
        lines += [f"[[{kind}]]", *(f"{name} = {json.dumps(value)}" for name, value in entries.items())]
    return "\n".join(lines) + "\n"


class Proxy:
    """A running proxy on a port of its own choice."""

    def __init__(
        self,
        folder: Path,
        servers: Sequence[Server | tuple[str, str]],
        tables: Sequence[dict[str, str]] = (),
        wait_for: str = "ready",
        sections: Sequence[Section] = (APP,),
        **settings: Any,
    ) -> None:
        """Start it and wait until its log says `wait_for`. Servers are those of a lab, or pairs of name and URL."""
        sections = [*sections, *(("table", table) for table in tables)]
        named = [(server.name, server.url) if isinstance(server, Server) else server for server in servers]
        self.config = folder / "highwater.toml"
        self.config.write_text(toml({"listen": ["127.0.0.1:0"], **settings}, named, sections))
        self._log = folder / "highwater.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [binary(), "run", "--config", self.config, "--log-format", "json"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_end_with_parent,
            )
        self.port = int(until("the proxy to listen", lambda: self._logged("listening")).rpartition(":")[2])
        until("the proxy to know its servers", lambda: self._logged(wait_for))

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All it has logged."""
        return self._log.read_text()

    def _logged(self, message: str) -> str:
        """The line of the log whose message begins with `message`, or its address where it tells one."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the proxy ended with {self._process.returncode}:\n{self.log}")
        for line in self.log.splitlines():
            fields = json.loads(line).get("fields", {}) if line.startswith("{") and line.endswith("}") else {}
            if str(fields.get("message", "")).startswith(message):
                return str(fields.get("address", line))
        return ""

    def console(self, command: str, user: str = "highwater", password: str = "highwater") -> list[dict[str, str]]:
        """What the admin console tells the probing role, one dictionary for each row, values as text."""
        with psycopg.connect(**self.parameters("highwater", user, password), autocommit=True) as connection:
            cursor = connection.execute(command)
            if not cursor.description:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, map(str, row), strict=True)) for row in cursor.fetchall()]

    def stat(self, name: str) -> int:
        """One counter of SHOW STATS."""
        return next(int(row["value"]) for row in self.console("SHOW STATS") if row["name"] == name)

    def server(self, name: str) -> dict[str, str]:
        """One line of SHOW SERVERS."""
        return next(row for row in self.console("SHOW SERVERS") if row["name"] == name)

    def until_it_sees(self, servers: Sequence[Server]) -> None:
        """Wait until each of these servers takes statements through the proxy, and the catalogue is known."""
        for server in servers:
            until(f"the proxy to use {server.name}", lambda server=server: self._uses(server))
        until("the proxy to know the catalogue", lambda: self._knows("SELECT peek(1)"))

    def _uses(self, server: Server) -> bool:
        try:
            with psycopg.connect(**self.parameters(f"shop@{server.name}"), autocommit=True) as connection:
                connection.execute("SET highwater.consistency = 'eventual'")
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def _knows(self, sql: str) -> bool:
        facts = {row["fact"]: row["value"] for row in self.console(f"EXPLAIN shop {sql}")}
        return facts["class"] == "read"

    def parameters(self, database: str = "shop", user: str = "app", password: str = "app") -> dict[str, Any]:
        """Connection parameters as libpq names them."""
        return {"host": "127.0.0.1", "port": self.port, "dbname": database, "user": user, "password": password}

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """What /proc says about the process's memory: `VmRSS` now, `VmHWM` the most since `forget_peak`."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
        assert match, status
        return int(match[1]) * 1024

    def forget_peak(self) -> None:
        """Let `VmHWM` start again from what is used now (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def abort(self) -> None:
        """End it at once. Clients that wait for an answer get the end of their connection instead."""
        self._process.kill()

    def stop(self) -> None:
        """End it in an orderly way, and complain about what it should never have logged."""
        if self.is_running():
            self._process.terminate()
        status = self._process.wait(timeout=15)
        assert status == 0, f"the proxy ended with {status}:\n{self.log[-4000:]}"
        assert "panicked" not in self.log, self.log[-4000:]
