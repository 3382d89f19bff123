"""Where things lie under `target/`, and what is downloaded there: Python environments, sources from registries."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = REPOSITORY / "suites"
DOCUMENT = REPOSITORY / "docs" / "compatibility.md"
TARGET = REPOSITORY / "target" / "suites"


def run(*command: str | Path, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Show a command and run it."""
    print(">", *command, flush=True)
    subprocess.run(command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, check=True)


def output(*command: str | Path, **environment: str) -> str:
    """What a command writes to its standard output."""
    environment = {**os.environ, **environment}
    pipe = subprocess.PIPE
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, text=True, check=True)
    return done.stdout


def venv(name: str) -> Path:
    """The Python of an environment that has what `requirements/NAME.txt` lists; made again when the list changes."""
    folder = TARGET / f"venv-{name}"
    python = folder / "bin" / "python"
    wanted = (HERE / "requirements" / f"{name}.txt").read_text()
    installed = folder / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted:
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip_install(python, "-r", HERE / "requirements" / f"{name}.txt")
        installed.write_text(wanted)
    return python


def pip_install(python: Path, *what: str | Path) -> None:
    """Install into an environment."""
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *what)


def source_distribution(name: str, version: str) -> Path:
    """A project's source distribution from PyPI, unpacked."""
    folder = TARGET / f"{name}-{version}"
    if not folder.exists():
        downloads = TARGET / "downloads"
        pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
        run(*pip, "--no-deps", "--no-binary", name, "--dest", downloads, f"{name}=={version}")
        unfinished = TARGET / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        with tarfile.open(downloads / f"{name}-{version}.tar.gz") as archive:
            archive.extractall(unfinished, filter="data")
        (unfinished / f"{name}-{version}").rename(folder)
    return folder


def digest(*texts: str) -> str:
    """A short name for texts that would be too long in a file's name."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]
