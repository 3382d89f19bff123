"""The pytest plugin, in runs of pytest of their own: with pytest-django, without it, and without Django's settings."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from harness.lab import Lab
from harness.proxy import Proxy

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src"

# A read that late replicas would answer from the past, and one that they would not.
READS = """
    from django.db import connection
    from django_highwater import consistency
    from project.models import Message, Wish

    def reads_late():
        Wish.objects.create(thing="x")
        with consistency("eventual"):
            return Wish.objects.count()

    def reads_fresh():
        Wish.objects.create(thing="x")
        assert Wish.objects.count() >= 1
"""


class Project:
    """A folder with tests, and pytest as its owner would run it."""

    def __init__(self, folder: Path, ports: dict[str, str]) -> None:
        self.folder = folder
        self._ports = ports

    def write(self, name: str, *texts: str) -> None:
        """A file of it."""
        (self.folder / name).write_text("".join(textwrap.dedent(text) for text in texts))

    def run(self, *options: str, path: Path = SOURCE, loaded: bool = True, **environment: str) -> str:
        """What pytest says in the end. The package lies in `path`, and is not installed where that is its source."""
        environment = {**_plain_environment(), **self._ports, **environment}
        environment["PYTHONPATH"] = os.pathsep.join([str(path), str(TESTS)])
        plugin = ["-p", "django_highwater.pytest_plugin"] if loaded else []
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "--strict-markers", "-W", "error"]
        command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(self.folder), *plugin, *options]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=100)
        return done.stdout + done.stderr

    def outcomes(self, *options: str, loaded: bool = True, **environment: str) -> tuple[set[str], set[str]]:
        """The names of the tests that passed, and of those that failed."""
        text = self.run(*options, loaded=loaded, **environment)
        lines = [line.split() for line in text.splitlines()]
        names = {
            state: {line[1].rpartition("::")[2] for line in lines if len(line) > 1 and line[0] == state}
            for state in ("PASSED", "FAILED", "ERROR")
        }
        assert not names["ERROR"], text
        assert names["PASSED"] or names["FAILED"], text
        return names["PASSED"], names["FAILED"]


def _plain_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.endswith("_PORT") and name not in ("DJANGO_SETTINGS_MODULE", "PYTEST_ADDOPTS")
    }


@pytest.fixture(scope="module")
def _no_test_database(_lab: Lab) -> None:
    """The first project makes one, through Highwater, and the others go on with it."""
    for (name,) in _lab.primary.rows("SELECT datname FROM pg_database WHERE datname LIKE 'test%'"):
        _lab.primary.rows(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def project(tmp_path: Path, lab: Lab, proxy: Proxy, _no_test_database: None) -> Project:
    """One that has nothing in it yet."""
    return Project(tmp_path, {"PROXY_PORT": str(proxy.port)})


WITH_DJANGO = {"DJANGO_SETTINGS_MODULE": "project.settings"}
# pytest-django's.
KEEP = "--reuse-db"


class TestWithPytestDjango:
    """Its database fixtures come first."""

    def test_strict(self, project: Project) -> None:
        project.write(
            "test_it.py",
            READS,
            """
            import pytest
            from django.test import TestCase, TransactionTestCase

            @pytest.fixture
            def wish(db):
                Wish.objects.create(thing="of a fixture")

            @pytest.mark.django_db
            @pytest.mark.highwater_strict
            def test_late(): reads_late()

            @pytest.mark.highwater_strict
            def test_late_with_a_fixture(transactional_db): reads_late()

            @pytest.mark.highwater_strict
            def test_fresh(db): reads_fresh()

            @pytest.mark.highwater_strict
            def test_what_fixtures_wrote_is_there(wish):
                with consistency("eventual"):
                    Wish.objects.get()

            @pytest.mark.django_db
            def test_unmarked(): reads_late()

            @pytest.mark.highwater_strict
            class Unit(TestCase):
                def setUp(self):
                    Wish.objects.create(thing="of the set-up")

                def test_unit_late(self): reads_late()
                def test_unit_fresh(self): reads_fresh()
                async def test_unit_late_async(self):
                    await Wish.objects.acreate(thing="x")
                    with consistency("eventual"):
                        await Wish.objects.acount()

                def test_unit_what_set_up_wrote_is_there(self):
                    with consistency("eventual"):
                        Wish.objects.get()

            class Others(TransactionTestCase):
                def test_unit_unmarked(self): reads_late()

                @pytest.mark.highwater_strict
                def test_unit_method_late(self): reads_late()
            """,
        )
        passed, failed = project.outcomes(KEEP, **WITH_DJANGO)
        fresh = {"test_fresh", "test_what_fixtures_wrote_is_there", "test_unit_fresh"}
        assert passed == fresh | {"test_unmarked", "test_unit_unmarked", "test_unit_what_set_up_wrote_is_there"}
        assert failed == {
            "test_late",
            "test_late_with_a_fixture",
            "test_unit_late",
            "test_unit_late_async",
            "test_unit_method_late",
        }

    def test_strict_for_all(self, project: Project) -> None:
        project.write(
            "test_it.py",
            READS,
            """
            import unittest
            import pytest
            from django.test import SimpleTestCase, TestCase

            @pytest.mark.django_db
            def test_marked(): reads_late()
            def test_fixture(transactional_db): reads_late()
            def test_fresh(db): reads_fresh()
            def test_no_database(): pass

            class Unit(TestCase):
                def test_unit(self): reads_late()
                def test_unit_fresh(self): reads_fresh()

            class Simple(SimpleTestCase):
                def test_simple(self): pass

            class Plain(unittest.TestCase):
                def test_plain(self): pass
            """,
        )
        late, fresh = {"test_marked", "test_fixture", "test_unit"}, {"test_fresh", "test_unit_fresh"}
        others = {"test_no_database", "test_simple", "test_plain"}
        assert project.outcomes(KEEP, **WITH_DJANGO) == (late | fresh | others, set())
        assert project.outcomes(KEEP, "--highwater-strict", **WITH_DJANGO) == (fresh | others, late)

    def test_it_says_what_would_be_stale(self, project: Project) -> None:
        project.write("test_it.py", READS, "def test_late(db): reads_late()")
        text = project.run(KEEP, "--highwater-strict", **WITH_DJANGO)
        assert "StaleRead: project_wish was written, and is read where it may not have arrived" in text

    def test_lag(self, project: Project) -> None:
        project.write(
            "test_it.py",
            READS,
            """
            import pytest
            from django.test import TransactionTestCase

            pytestmark = pytest.mark.highwater_lag

            @pytest.fixture
            def wish(transactional_db):
                Wish.objects.create(thing="of a fixture")

            def test_lag(transactional_db): assert reads_late() == 0
            def test_what_was_there(wish): assert reads_late() == 1
            def test_fresh(transactional_db): reads_fresh()
            def test_in_a_transaction(db): pass

            class Unit(TransactionTestCase):
                def test_unit(self): assert reads_late() == 0
            """,
        )
        passed, failed = project.outcomes(KEEP, **WITH_DJANGO)
        assert passed == {"test_lag", "test_what_was_there", "test_fresh", "test_unit"}
        assert failed == {"test_in_a_transaction"}

    def test_fixtures(self, project: Project) -> None:
        project.write(
            "test_it.py",
            READS,
            """
            def test_routes(transactional_db, assert_routes):
                with assert_routes(primary=1, replica=1):
                    reads_late()

            def test_wrong_routes(transactional_db, assert_routes):
                with assert_routes(primary=2, replica=0):
                    reads_late()

            def test_lag(transactional_db, simulated_lag):
                with simulated_lag():
                    assert reads_late() == 0
                reads_fresh()
            """,
        )
        assert project.outcomes(KEEP, **WITH_DJANGO) == ({"test_routes", "test_lag"}, {"test_wrong_routes"})


class TestWithoutPytestDjango:
    """Then the project sets Django up."""

    NO_DJANGO = ("-p", "no:django")

    def test_strict(self, project: Project) -> None:
        project.write("conftest.py", "import django\ndjango.setup()\n")
        project.write(
            "test_it.py",
            READS,
            """
            import pytest
            from django.test import TestCase
            from django.test.utils import setup_databases, teardown_databases

            @pytest.fixture(scope="module", autouse=True)
            def _databases():
                made = setup_databases(verbosity=0, interactive=False, keepdb=True)
                yield
                teardown_databases(made, verbosity=0, keepdb=True)

            @pytest.mark.highwater_strict
            def test_late(): reads_late()

            @pytest.mark.highwater_lag
            def test_lag(): assert reads_late() < Wish.objects.count()

            class Unit(TestCase):
                @pytest.mark.highwater_strict
                def test_unit(self): reads_late()
                def test_unit_unmarked(self): reads_late()
            """,
        )
        passed, failed = project.outcomes(*self.NO_DJANGO, **WITH_DJANGO)
        assert (passed, failed) == ({"test_lag", "test_unit_unmarked"}, {"test_late", "test_unit"})
        passed, failed = project.outcomes(*self.NO_DJANGO, "--highwater-strict", **WITH_DJANGO)
        assert (passed, failed) == ({"test_lag"}, {"test_late", "test_unit", "test_unit_unmarked"})

    def test_nobody_has_set_django_up(self, project: Project) -> None:
        project.write("test_it.py", "import pytest\n@pytest.mark.highwater_strict\ndef test_it(): pass\n")
        assert "Failed: Django is not set up: django.setup() in" in project.run(*self.NO_DJANGO)


class TestNothingToDoWithDjango:
    """The plugin is loaded all the same."""

    def test_there_are_no_settings(self, project: Project) -> None:
        project.write(
            "test_it.py",
            """
            import sys
            import unittest

            def test_function():
                assert "django_highwater.pytest_plugin" in sys.modules
                assert not {"django.db.models", "django.test", "django_highwater.testing"} & set(sys.modules)

            class Unit(unittest.TestCase):
                def test_unit(self): pass

                def test_settings_are_left_alone(self):
                    from django.conf import settings
                    assert not settings.configured
            """,
        )
        names = {"test_function", "test_unit", "test_settings_are_left_alone"}
        for options in ([], ["--highwater-strict"]):
            assert project.outcomes("-p", "no:django", *options) == (names, set())

    def test_nor_with_pytest_django(self, project: Project) -> None:
        project.write("test_it.py", "def test_function(): pass\n")
        assert project.outcomes("--highwater-strict") == ({"test_function"}, set())


def test_who_installs_the_package_has_it(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """By the entry point; and can switch it off."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(place), str(TESTS.parent)], check=True, capture_output=True, timeout=100)
    project.write("test_it.py", "import pytest\n@pytest.mark.highwater_strict\ndef test_it(db): pass\n")
    assert "1 passed" in project.run(KEEP, path=place, loaded=False, **WITH_DJANGO)
    text = project.run("-p", "no:highwater", path=place, loaded=False, **WITH_DJANGO)
    assert "'highwater_strict' not found in `markers` configuration option" in text
    assert "highwater_strict: the test fails" in project.run("--markers", path=place, loaded=False, **WITH_DJANGO)
