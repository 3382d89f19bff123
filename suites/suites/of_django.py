"""Django's own test suite, from its source distribution."""

import re
from collections.abc import Sequence
from pathlib import Path

from . import folders, programs
from .stage import Need, Place
from .suite import Suite

VERSION = "5.2.19"

# Where session state, transactions, locks, cursors and test databases are put to the test, and what reads back at once
# what it has written.
SLICE = (
    "backends",
    "basic",
    "bulk_create",
    "db_utils",
    "delete",
    "get_or_create",
    "migrate_signals",
    "postgres_tests.test_array",
    "postgres_tests.test_constraints",
    "postgres_tests.test_integration",
    "postgres_tests.test_operations",
    "postgres_tests.test_signals",
    "raw_query",
    "select_for_update",
    "servers",
    "sessions_tests",
    "test_utils.test_transactiontestcase",
    "transaction_hooks",
    "transactions",
)

# A class of tests reports when it is through; the slowest takes some minutes.
_SILENCE_SECONDS = 600


class Django(Suite):
    """Django with psycopg 3; each binding of parameters is a variant."""

    name = "django"
    engine = "django.db.backends.postgresql"

    def __init__(self, bindings: Sequence[str], processes: int) -> None:
        self._bindings = bindings
        self._processes = processes

    def variants(self) -> Sequence[str]:
        return self._bindings

    def slice(self) -> Sequence[str]:
        return SLICE

    def prepare(self) -> str:
        self._source = folders.source_distribution("django", VERSION)
        self._python = folders.venv("django")
        # With one process, classes that are skipped are reported in another way.
        return f"{VERSION} {self._processes} " + (folders.HERE / "requirements" / "django.txt").read_text()

    def need(self) -> Need:
        return Need()

    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        command = [self._python, "runtests.py", "--settings", "django_settings"]
        command += ["--parallel", str(self._processes), "--noinput", *sorted({_label(test) for test in tests})]
        environment = {
            # The settings and the runner; and Django's sources, for they are what is tested.
            "PYTHONPATH": f"{folders.HERE / 'inside'}:{self._source}",
            "HIGHWATER_SUITE_RESULTS": str(results),
            "HIGHWATER_SUITE_PORT": str(place.port),
            "HIGHWATER_SUITE_USER": place.user,
            "HIGHWATER_SUITE_PASSWORD": place.password,
            "HIGHWATER_SUITE_BINDING": variant,
            "HIGHWATER_SUITE_ENGINE": self.engine,
        }
        return programs.watch(
            command,
            folder=self._source / "tests",
            environment=environment,
            log=log,
            progress=results,
            silence_seconds=_SILENCE_SECONDS,
        )


class GeoDjango(Django):
    """The part for maps, on PostGIS; without it Django skips what it tests there."""

    name = "geodjango"
    engine = "django.contrib.gis.db.backends.postgis"

    def slice(self) -> Sequence[str]:
        # What asks a server, and not only the libraries.
        return tuple(f"gis_tests.{app}" for app in ("distapp", "geoapp", "geogapp", "rasterapp", "relatedapp"))

    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        return super().run(place, variant, tests or ("gis_tests",), results, log)


def _label(test: str) -> str:
    """What selects a test: the failed set-up of a class is named after it in parentheses."""
    whole = re.search(r"\((.+)\)$", test)
    return whole[1] if whole else test
