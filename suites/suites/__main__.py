"""`cargo xtask suites`: runs other people's test suites directly and through the proxy, and compares."""

import argparse
import json
import signal
import sys
from pathlib import Path
from typing import Any

from .of_asyncpg import Asyncpg
from .of_django import Django, GeoDjango
from .of_pgbench import Pgbench
from .of_psycopg import Psycopg
from .of_rust_postgres import RustPostgres
from .run import Wanted, run
from .suite import Failed, Missing, Suite

_ALL = "all"
_NAMES = (Django.name, GeoDjango.name, Psycopg.name, Asyncpg.name, RustPostgres.name, Pgbench.name)
_BINDINGS = ("client", "server")


def main() -> int:
    """Run what the command line names; fail when something differs that is not known to."""
    # What runs beneath us ends with us.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    arguments = _parser().parse_intermixed_args()
    settings = dict(_setting(text) for text in arguments.settings)
    wanted = Wanted(arguments.tests, arguments.slice, arguments.differing, arguments.fresh, settings)
    results = [_run(suite, wanted, arguments.suite) for suite in _suites(arguments)]
    return 0 if all(results) else 1


def _run(suite: Suite, wanted: Wanted, named: str) -> bool:
    try:
        return run(suite, wanted)
    except Missing as missing:
        print(f"{suite.name} is not run: {missing}")
        # Whoever asks for all suites means those that can run here.
        return named == _ALL
    except Failed as failed:
        print(failed)
        return False


def _setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cargo xtask suites", description=__doc__)
    parser.add_argument("suite", nargs="?", default=_ALL, choices=(_ALL, *_NAMES))
    parser.add_argument("tests", nargs="*", help="tests as the suite names them; all when absent")
    parser.add_argument("--slice", action="store_true", help="only the part that runs in CI")
    parser.add_argument("--differing", action="store_true", help="only the tests that differed in the last run")
    parser.add_argument("--fresh", action="store_true", help="run directly even if it is known how that ends")
    parser.add_argument("--binding", choices=_BINDINGS, help="django: who puts parameters into statements")
    parser.add_argument("--processes", type=int, default=2, help="django: how many processes, each with databases")
    parser.add_argument("--source", type=Path, help="psycopg: a copy of its repository")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of the proxy")
    return parser


def _suites(arguments: argparse.Namespace) -> list[Suite]:
    bindings = (arguments.binding,) if arguments.binding else _BINDINGS
    django = (Django(bindings, arguments.processes), GeoDjango(bindings, arguments.processes))
    suites = (*django, Psycopg(arguments.source), Asyncpg(), RustPostgres(), Pgbench())
    return [suite for suite in suites if arguments.suite in (_ALL, suite.name)]


if __name__ == "__main__":
    sys.exit(main())
