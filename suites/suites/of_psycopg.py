"""psycopg 3's own test suite, with psycopg and its pool as they are beside it: in Python, on the system's libpq."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import folders, programs
from .stage import USER, Need, Place
from .suite import Missing, Suite

SLICE = (
    "tests/test_connection.py",
    "tests/test_cursor_common.py",
    "tests/test_cursor_server.py",
    "tests/test_pipeline.py",
    "tests/test_prepared.py",
    "tests/test_transaction.py",
)

# Whether its own code is well typed and of one version, and whether it leaks memory, which takes longer than all other
# tests together: a server has no part in that. And what only CockroachDB can do.
_LEFT_OUT = ("--ignore=tests/test_typing.py", "--ignore=tests/crdb", "-k", "not test_leak and not test_version")
# The longest of its tests waits for 15 s.
_TEST_SECONDS = 60
_SILENCE_SECONDS = 3 * _TEST_SECONDS


class Psycopg(Suite):
    """Its tests are in its repository only, so somebody must say where that is."""

    name = "psycopg"

    def __init__(self, source: Path | None) -> None:
        self._source = (source or folders.TARGET / "psycopg-source").resolve()

    def variants(self) -> Sequence[str]:
        return ("python",)

    def slice(self) -> Sequence[str]:
        return SLICE

    def prepare(self) -> str:
        if not (self._source / "tests" / "fix_db.py").exists():
            raise Missing(
                "psycopg's tests are not part of its distributions on PyPI; "
                "say --source FOLDER, a checkout of its repository, or put one at target/suites/psycopg-source"
            )
        self._python = folders.venv("psycopg")
        installed = self._python.parents[1] / "source.txt"
        if not installed.exists() or installed.read_text() != self._version():
            folders.pip_install(self._python, self._source / "psycopg", self._source / "psycopg_pool")
            installed.write_text(self._version())
        return self._version()

    def _version(self) -> str:
        describe = ["git", "-C", str(self._source), "rev-parse", "HEAD"]
        told = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
        return f"{told} {_LEFT_OUT}"

    def need(self) -> Need:
        # Its tests ask whether a password was used.
        return Need(hba=(f"host all {USER} 127.0.0.1/32 scram-sha-256",))

    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        # It keeps there whether it has crashed before, and then refuses to run.
        cache = results.with_suffix(".cache")
        shutil.rmtree(cache, ignore_errors=True)
        command = [self._python, "-m", "pytest", "-p", "pytest_recording", "-o", f"cache_dir={cache}", "--tb=short"]
        command += [f"--timeout={_TEST_SECONDS}", f"--test-dsn={place.dsn}"]
        command += tests or ("tests", *_LEFT_OUT)
        environment = {
            "PYTHONPATH": str(folders.HERE / "inside"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PSYCOPG_IMPL": variant,
            "HIGHWATER_SUITE_RESULTS": str(results),
        }
        return programs.watch(
            command,
            folder=self._source,
            environment=environment,
            log=log,
            progress=results,
            silence_seconds=_SILENCE_SECONDS,
        )
