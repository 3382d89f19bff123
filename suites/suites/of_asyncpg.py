"""asyncpg's own test suite, from its source distribution, against the package that PyPI has built."""

from collections.abc import Sequence
from pathlib import Path

from . import folders, programs
from .stage import USER, Need, Place
from .suite import Suite

VERSION = "0.32.0"

SLICE = (
    "tests/test_cache_invalidation.py",
    "tests/test_copy.py",
    "tests/test_cursor.py",
    "tests/test_listeners.py",
    "tests/test_prepare.py",
    "tests/test_transaction.py",
)

# What starts clusters of its own, and what looks at the sources or at the machine.
_LEFT_OUT = ("adversity", "_environment", "_sourcecode", "subinterpreters")
_TEST_SECONDS = 60
_SILENCE_SECONDS = 3 * _TEST_SECONDS


class Asyncpg(Suite):
    """Its tests take a server that runs, when the environment names one."""

    name = "asyncpg"

    def variants(self) -> Sequence[str]:
        return ("all",)

    def slice(self) -> Sequence[str]:
        return SLICE

    def prepare(self) -> str:
        self._source = folders.source_distribution("asyncpg", VERSION)
        self._python = folders.venv("asyncpg")
        # The package as it is installed: that of the source is not compiled.
        package = self._source / "asyncpg"
        if package.exists():
            package.rename(self._source / "asyncpg-sources")
        return VERSION + (folders.HERE / "requirements" / "asyncpg.txt").read_text() + str(_LEFT_OUT)

    def need(self) -> Need:
        return Need(hba=(f"host all {USER} 127.0.0.1/32 scram-sha-256",))

    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        left_out = [f"--ignore=tests/test_{name}.py" for name in _LEFT_OUT]
        command = [self._python, "-m", "pytest", "-p", "pytest_recording", "-p", "no:cacheprovider", "--tb=short"]
        command += [f"--timeout={_TEST_SECONDS}", *(tests or ("tests", *left_out))]
        environment = {
            "PYTHONPATH": str(folders.HERE / "inside"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HIGHWATER_SUITE_RESULTS": str(results),
            "PGHOST": place.host,
            "PGPORT": str(place.port),
            "PGUSER": place.user,
            "PGPASSWORD": place.password,
            # Some tests name it.
            "PGDATABASE": "postgres",
        }
        return programs.watch(
            command,
            folder=self._source,
            environment=environment,
            log=log,
            progress=results,
            silence_seconds=_SILENCE_SECONDS,
        )
