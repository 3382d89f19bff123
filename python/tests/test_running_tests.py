"""A site's own tests, through Highwater with replicas on: nothing in them is different."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.lab import Lab, Server
from harness.proxy import Proxy

TESTS = Path(__file__).parent
HOWTO = TESTS.parents[1] / "docs" / "django-howto.md"


def run(lab: Lab, at: Proxy | Server, *command: str, settings: str = "settings") -> str:
    """What a command says that must succeed; it begins and ends without test databases."""
    own = [str(TESTS.parent / "src"), str(TESTS)]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_PORT")}
    environment |= {"PYTHONPATH": os.pathsep.join(own), "PROXY_PORT": str(at.port)}
    environment["DJANGO_SETTINGS_MODULE"] = f"project.{settings}"
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=TESTS, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_databases(lab: Lab) -> list[str]:
    """Those that a test run has left."""
    return [name for (name,) in lab.primary.rows("SELECT datname FROM pg_database WHERE datname LIKE 'test%'")]


test_databases.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _clean(lab: Lab, proxy: Proxy) -> None:
    for name in test_databases(lab):
        lab.primary.rows(f"DROP DATABASE {name} WITH (FORCE)")


def test_djangos_runner(lab: Lab, proxy: Proxy) -> None:
    text = run(lab, proxy, "django", "test", "site_tests", "--noinput", "--shuffle", "1")
    assert re.search(r"Ran 18 tests.*\n\nOK", text), text
    assert test_databases(lab) == []


def test_without_highwater(lab: Lab) -> None:
    """The same site on PostgreSQL itself, with the package in it."""
    text = run(lab, lab.primary, "django", "test", "site_tests", "--noinput", "--exclude-tag", "replicas")
    assert re.search(r"Ran 17 tests.*\n\nOK", text), text


def test_in_parallel_with_databases_that_are_cloned(lab: Lab, proxy: Proxy) -> None:
    text = run(lab, proxy, "django", "test", "site_tests", "--noinput", "--parallel", "2", "-v", "2")
    assert re.search(r"Ran 18 tests.*\n\nOK", text), text
    assert "Cloning test database" in text
    assert test_databases(lab) == []


def test_databases_that_are_kept(lab: Lab, proxy: Proxy) -> None:
    for _ in range(2):
        run(lab, proxy, "django", "test", "site_tests", "--noinput", "--keepdb", "-v", "2")
    assert test_databases(lab) == ["test_shop"]


def test_pytest_django(lab: Lab, proxy: Proxy) -> None:
    options = ["-p", "no:cacheprovider", "-c", os.devnull, "--confcutdir", "site_tests", "site_tests/test_site.py"]
    assert "18 passed" in run(lab, proxy, "pytest", "--create-db", *options)
    assert "18 passed" in run(lab, proxy, "pytest", "--reuse-db", "-n", "2", *options)


@pytest.mark.parametrize("options", [[], ["--parallel", "2"]], ids=["alone", "parallel"])
def test_with_an_alias_for_reading(lab: Lab, proxy: Proxy, options: list[str]) -> None:
    own = ["replica_tests", "--noinput", *options]
    text = run(lab, proxy, "django", "test", *own, settings="settings_with_replica")
    assert re.search(r"Ran 17 tests.*\n\nOK", text), text
    assert test_databases(lab) == []


def test_with_an_alias_for_reading_by_pytest(lab: Lab, proxy: Proxy, tmp_path: Path) -> None:
    """With the recipe as docs/django-howto.md prints it; the class that does without it is not meant."""
    recipe = re.search(r"```python\n# conftest.py.*?\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    assert recipe
    folder = tmp_path / "replica_tests"
    shutil.copytree(TESTS / "replica_tests", folder)
    (folder / "conftest.py").write_text(recipe[1])
    options = ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(tmp_path), "-k", "not WithoutJoining"]
    for more in (["--create-db"], ["--reuse-db", "-n", "2"]):
        text = run(lab, proxy, "pytest", str(folder), *more, *options, settings="settings_with_replica")
        assert "20 passed" in text, text


def test_what_migrations_have_written(lab: Lab, proxy: Proxy) -> None:
    assert re.search(r"Ran 2 tests.*\n\nOK", run(lab, proxy, "django", "test", "serialized_tests", "--noinput"))
    options = ["-p", "no:cacheprovider", "-c", os.devnull, "--confcutdir", "serialized_tests"]
    assert "2 passed" in run(lab, proxy, "pytest", "--create-db", *options, "serialized_tests/test_serialized.py")


def test_migrations_and_their_way_back(lab: Lab, proxy: Proxy) -> None:
    """On databases of their own, for the others go on using `shop`."""
    lab.primary.rows("CREATE DATABASE shop_of_migrations OWNER app")
    try:
        for target in (("migrate", "--noinput"), ("migrate", "project", "zero"), ("migrate", "--noinput")):
            run(lab, proxy, "django", *target, "--settings", "project.settings_of_migrations")
        assert "[X] 0001_initial" in run(
            lab, proxy, "django", "showmigrations", "project", "--settings", "project.settings_of_migrations"
        )
    finally:
        lab.primary.rows("DROP DATABASE shop_of_migrations WITH (FORCE)")


def test_dbshell(lab: Lab, proxy: Proxy) -> None:
    assert "strong" in run(lab, proxy, "django", "dbshell", "--", "-c", "SHOW highwater.consistency")
