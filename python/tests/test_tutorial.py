"""The documentation's commands work as printed: docs/django.md, in a fresh virtual environment with the wheel alone."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.lab import binary

PACKAGE = Path(__file__).resolve().parents[1]
TUTORIAL = PACKAGE.parent / "docs" / "django.md"
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "@@@ "


def script(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The page as one program for bash, and each of its commands with what it is to print."""
    lines, commands = ["set -m"], []
    for kind, body in _BLOCK.findall(text):
        if kind == "python":
            title, _, content = body.partition("\n")
            path, _, how = title.removeprefix("# ").partition(", ")
            arrow = ">>" if how == "at the end" else ">"
            lines.append(f"cat {arrow} {path} <<'END OF FILE'\n{content}\nEND OF FILE")
            continue
        for step in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, expected = step.partition("\n")
            commands.append((command, expected.strip()))
            lines += [command, f"status=$?; echo; echo '{_MARK}'$status"]
    return "\n".join(lines) + "\n", commands


def matches(expected: str, printed: str) -> bool:
    """Whether it is what the page says, where a line of dots stands for anything."""
    if not expected:
        return True
    pattern = "(?:.*\n)*".join(re.escape(part) for part in expected.split("...\n"))
    return re.fullmatch(re.sub(r"\\\.\\\.\\\.$", "(?:.*\n?)*", pattern), printed.strip()) is not None


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which pip finds the package, as it would be published."""
    folder = tmp_path_factory.mktemp("wheels")
    build = [sys.executable, "-m", "flit_core.wheel", "--outdir", str(folder)]
    subprocess.run(build, cwd=PACKAGE, check=True, capture_output=True)
    return folder


@pytest.fixture
def cluster() -> Iterator[str]:
    """A folder for a cluster, whose servers run as another user; what is there is gone behind the test."""
    with tempfile.TemporaryDirectory(prefix="hw-tutorial-") as folder:
        yield folder
        subprocess.run([binary(), "lab", "down", "--dir", folder], capture_output=True)
        Path(folder).mkdir(exist_ok=True)


@pytest.mark.timeout(300)
def test_the_tutorial_works_as_printed(wheels: Path, tmp_path: Path, cluster: str) -> None:
    text, commands = script(TUTORIAL.read_text())
    own = {"PATH": f"{binary().parent}{os.pathsep}{os.environ['PATH']}", "HIGHWATER_LAB": cluster}
    own |= {"PIP_FIND_LINKS": str(wheels), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO", "PYTHON"))}
    done = subprocess.run(
        ["bash", "--norc", "-c", text], cwd=tmp_path, env=kept | own, capture_output=True, text=True, timeout=280
    )
    results = re.split(rf"\n{_MARK}(\d+)\n", done.stdout)
    printed, codes = results[0:-1:2], results[1::2]
    story = "\n".join(f"$ {command}\n{text}" for (command, _), text in zip(commands, printed, strict=False))
    logs = "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))
    assert len(codes) == len(commands), story + done.stderr + logs
    for (command, expected), text, code in zip(commands, printed, codes, strict=True):
        assert code == "0", f"{command}: {story}{done.stderr}{logs}"
        assert matches(expected, text), f"{command} printed {text!r}\n{story}{done.stderr}{logs}"


def test_the_wheel_holds_everything(wheels: Path) -> None:
    import zipfile

    (wheel,) = wheels.glob("django_highwater-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("py.typed", "templates/django_highwater/panel.html", "management/commands/highwater.py"):
        assert f"django_highwater/{name}" in names
    metadata = next(name for name in names if name.endswith("METADATA"))
    needed = re.findall(r"^Requires-Dist: (.*)$", zipfile.ZipFile(wheel).read(metadata).decode(), re.MULTILINE)
    assert needed == ["Django >= 5.2"]
