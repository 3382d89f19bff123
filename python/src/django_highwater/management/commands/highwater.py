"""`manage.py highwater status`, `explain` and `doctor`: what Highwater's console tells of the database of an alias."""

from __future__ import annotations

import shutil
import subprocess
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from django.core.checks import Tags, run_checks
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections

_Row = dict[str, str]
_CONSOLE = "highwater"
# Whoever looks for what is wrong must not wait without end for one who accepts connections and says nothing.
_CONNECT_TIMEOUT_SECONDS = 10


class Command(BaseCommand):
    """Asks the console, at the address of an alias."""

    help = "Shows what Highwater does with this project's statements: status, explain, doctor."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Three commands, and how to reach the console."""
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="The alias (default: %(default)s).")
        parser.add_argument(
            "--console",
            metavar="URL",
            help="postgres://user:password@host:port of an administrator; else the alias's own user must be one.",
        )
        commands = parser.add_subparsers(dest="command", required=True)
        commands.add_parser("status", help="Servers, how far they are behind, and where statements have run.")
        explain = commands.add_parser("explain", help="What a statement may do, and where it would go.")
        explain.add_argument("sql")
        doctor = commands.add_parser("doctor", help="What is wrong with this project's settings, and with the servers.")
        doctor.add_argument(
            "--config", help="Highwater's configuration file: then its own doctor examines the servers too."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run one of them."""
        alias: str = options["database"]
        if connections[alias].vendor != "postgresql":
            raise CommandError(f"the database {alias!r} is not PostgreSQL")
        ask = _console(alias, options["console"])
        if options["command"] == "status":
            self._status(ask)
        elif options["command"] == "explain":
            name = str(connections[alias].settings_dict["NAME"]).partition("@")[0]
            self._table(ask(f"EXPLAIN {name} {options['sql']}"))
        else:
            self._doctor(alias, ask, options["config"])

    def _status(self, ask: Callable[[str], list[_Row]]) -> None:
        for command, columns in _STATUS.items():
            self.stdout.write(self.style.MIGRATE_HEADING(command))
            self._table([{name: row[name] for name in columns if name in row} for row in ask(f"SHOW {command}")])

    def _doctor(self, alias: str, ask: Callable[[str], list[_Row]], config: str | None) -> None:
        found = run_checks(tags=["highwater", Tags.database], databases=[alias], include_deployment_checks=True)
        for message in found:
            self.stdout.write(str(message))
        worst = max((message.level for message in found), default=0)
        for row in ask("SHOW SERVERS"):
            if row["trouble"] or row["traffic"] != "open":
                self.stdout.write(f"{row['name']}: {row['traffic']}, {row['trouble'] or 'no trouble'}")
        if config:
            program = shutil.which("highwater")
            if not program:
                raise CommandError("the program highwater is not in the PATH")
            done = subprocess.run([program, "doctor", "--config", config], capture_output=True, text=True)
            self.stdout.write(done.stdout + done.stderr)
            worst = max(worst, {0: 0, 1: 30}.get(done.returncode, 40))
        else:
            self.stdout.write(
                "What the servers' own settings mean: highwater doctor --config FILE, where Highwater runs."
            )
        # As Highwater's doctor: 1 with warnings, 2 with errors.
        if worst >= 30:
            raise SystemExit(2 if worst >= 40 else 1)

    def _table(self, rows: list[_Row]) -> None:
        if not rows:
            self.stdout.write("  nothing")
            return
        widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
        for row in [{name: name for name in widths}, *rows]:
            self.stdout.write("  " + "  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip())


_STATUS = {
    "SERVERS": ["name", "address", "role", "timeline", "lsn", "lag_bytes", "lag_time", "traffic", "busy", "trouble"],
    "ROUTES": ["server", "reason", "count"],
    "STATS": ["name", "value"],
}


def _console(alias: str, url: str | None) -> Callable[[str], list[_Row]]:
    """Asks one command at a time. Raises `CommandError` where nobody answers, or not us."""
    connection = connections[alias]
    given = urlsplit(url or "")
    settings = connection.settings_dict
    options: dict[str, Any] = settings["OPTIONS"]
    target = {
        "host": given.hostname or settings["HOST"],
        "port": given.port or settings["PORT"],
        "user": unquote(given.username) if given.username else settings["USER"],
        "password": unquote(given.password) if given.password else settings["PASSWORD"],
        "connect_timeout": options.get("connect_timeout", _CONNECT_TIMEOUT_SECONDS),
    }
    # The driver that Django uses, whichever that is.
    driver = cast("Any", connection).Database

    def ask(command: str) -> list[_Row]:
        try:
            console: Any = driver.connect(dbname=_CONSOLE, **target)
        except driver.Error as error:
            raise CommandError(f"Highwater's console does not answer: {str(error).strip()}") from error
        console.autocommit = True
        with closing(console), console.cursor() as cursor:
            cursor.execute(command)
            names: list[str] = [column[0] for column in cursor.description]
            rows: list[tuple[object, ...]] = cursor.fetchall()
        return [dict(zip(names, map(str, row), strict=True)) for row in rows]

    return ask
