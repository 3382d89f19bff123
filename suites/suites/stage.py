"""A cluster for one run, and the proxy before it where the run goes through one."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.address import Address
from harness.lab import Lab, Server
from harness.proxy import Proxy, Section

# The role that suites run under. They make databases and extensions.
USER = "suite"
PASSWORD = "suite"
_HOST = "127.0.0.1"


@dataclass(frozen=True)
class Need:
    """What a suite wants of a cluster and of the proxy."""

    # Statements on the primary before anything starts, by database.
    sql: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # Lines for the top of pg_hba.conf.
    hba: tuple[str, ...] = ()
    # Sections of the proxy's configuration, beside the suite's own user.
    sections: Sequence[Section] = ()
    # The port on which the suite looks for PostgreSQL; 0 for any.
    port: int = 0


@dataclass(frozen=True)
class Place:
    """Where a suite finds PostgreSQL: a primary, or the proxy before it and its standbys."""

    port: int
    # For what must not depend on the proxy.
    primary: Server
    user: str = USER
    password: str = PASSWORD
    host: str = _HOST
    database: str = "shop"

    @property
    def dsn(self) -> str:
        """As libpq wants it."""
        words = {"host": self.host, "port": str(self.port), "user": self.user, "password": self.password}
        return " ".join(f"{name}={value}" for name, value in {**words, "dbname": self.database}.items())


# Tests commit thousands of times and nothing of theirs must outlive the machine. A suite of several processes, and the
# proxy's pools for it, need connections.
_SETTINGS = {"fsync": "off", "max_connections": "300", "max_prepared_transactions": "20"}


@contextmanager
def cluster(need: Need) -> Iterator[Lab]:
    """A primary and two standbys with the suite's role and whatever else it needs."""
    lab = Lab(standbys=2, settings=_SETTINGS, is_brief=True)
    try:
        for server in lab.servers if need.hba else []:
            hba = lab.folder / "pg_hba.conf"
            if server is lab.primary:
                hba.write_text("".join(f"{line}\n" for line in need.hba) + hba.read_text())
            server.rows("SELECT pg_reload_conf()")
        lab.primary.rows(f"CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        for database, statements in need.sql.items():
            with lab.primary.connect(database) as connection:
                for statement in statements:
                    connection.execute(statement.encode())
        lab.settle()
        yield lab
    finally:
        lab.close()


@contextmanager
def direct(lab: Lab, need: Need) -> Iterator[Place]:
    """The primary itself."""
    if need.port:
        with closing(Address(lab.primary.port, need.port)):
            yield Place(need.port, lab.primary)
    else:
        yield Place(lab.primary.port, lab.primary)


@contextmanager
def proxy(lab: Lab, need: Need, folder: Path, settings: Mapping[str, Any]) -> Iterator[Proxy]:
    """The proxy with the settings that it is shipped with, and `settings`. Its log stays in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    user: Section = ("user", {"name": USER, "password": PASSWORD})
    listen = {"listen": [f"{_HOST}:{need.port}"]}
    running = Proxy(folder, lab.servers, sections=[user, *need.sections], **{**listen, **settings})
    try:
        yield running
    finally:
        running.stop()


def routes(running: Proxy) -> str:
    """Where the proxy sent statements, and why, most frequent first."""
    rows = sorted(running.console("SHOW ROUTES"), key=lambda row: -int(row["count"]))
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def share(running: Proxy, lab: Lab) -> str:
    """How much of what was sent anywhere went to standbys: a run on the primary alone would prove little."""
    count = Counter[str]()
    for row in running.console("SHOW ROUTES"):
        count[row["server"]] += int(row["count"])
    on_standbys = sum(count[standby.name] for standby in lab.standbys)
    total = on_standbys + count[lab.primary.name]
    return f"{on_standbys} of {total} routed units ran on standbys"
