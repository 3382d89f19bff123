"""rust-postgres' own test suite: the crates as crates.io has them, with the tests that they contain."""

import json
import os
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.lab import binary
from harness.proxy import Section

from . import folders
from .outcomes import Kind, Outcome, Results
from .stage import Need, Place
from .suite import Suite

VERSIONS = {"tokio-postgres": "0.7.18", "postgres": "0.19.14"}

# The crates' tests look for PostgreSQL here; their sources are changed to look at a free port instead.
_THEIR_PORT = "5433"
# Most of the time a test waits for a server.
_PROCESSES = 4
# The longest test takes some seconds.
_LIMIT_SECONDS = 30


class RustPostgres(Suite):
    """tokio-postgres' tests, and those of the blocking client on top of it."""

    name = "rust-postgres"

    def variants(self) -> Sequence[str]:
        return tuple(VERSIONS)

    def slice(self) -> Sequence[str]:
        return ()

    def prepare(self) -> str:
        versions = " ".join(f"{name}={version}" for name, version in VERSIONS.items())
        self._folder = folders.TARGET / f"rust-postgres-{folders.digest(versions)}"
        if not (self._folder / "port").exists():
            self._download()
        self._port = int((self._folder / "port").read_text())
        self._programs = {name: self._build(name) for name in VERSIONS}
        return versions

    def _build(self, name: str) -> list[Path]:
        """The programs that hold a crate's tests. Examples in its documentation are none of them."""
        manifest = self._folder / name / "Cargo.toml"
        # One feature is for browsers.
        features = [name for name in tomllib.loads(manifest.read_text())["features"] if name != "js"]
        command = [_cargo(), "test", "--no-run", "--quiet", "--message-format=json", "--tests"]
        told = folders.output(*command, "--manifest-path", manifest, "--features", ",".join(features), **self._building)
        built = [json.loads(line) for line in told.splitlines()]
        return [Path(it["executable"]) for it in built if it.get("executable") and it["profile"]["test"]]

    def _download(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        wanted = self._folder / "wanted"
        (wanted / "src").mkdir(parents=True)
        (wanted / "src" / "lib.rs").write_text("")
        lines = ["[package]", 'name = "wanted"', 'edition = "2024"', "[workspace]", "[dependencies]"]
        lines += [f'{name} = "={version}"' for name, version in VERSIONS.items()]
        (wanted / "Cargo.toml").write_text("\n".join(lines) + "\n")
        vendor = self._folder / "vendor"
        folders.run(_cargo(), "vendor", "--quiet", "--manifest-path", wanted / "Cargo.toml", vendor)
        port = _free_port()
        for name in VERSIONS:
            shutil.copytree(vendor / name, self._folder / name)
            _adapt(self._folder / name, port)
        shutil.rmtree(vendor)
        members = json.dumps(list(VERSIONS))
        (self._folder / "Cargo.toml").write_text(f'[workspace]\nresolver = "2"\nmembers = {members}\n')
        (self._folder / "port").write_text(str(port))

    @property
    def _building(self) -> dict[str, str]:
        target = str(self._folder / "target")
        return {"CARGO_TARGET_DIR": target, "CARGO_PROFILE_DEV_DEBUG": "0", "RUSTFLAGS": "-A warnings"}

    def need(self) -> Need:
        hba = [f"host all {user} 127.0.0.1/32 {method}" for user, method in _METHODS.items()]
        # The proxy looks the passwords up in the database that it probes.
        lookup = folders.output(binary(), "auth-sql")
        return Need(sql={"postgres": _SQL, "shop": (lookup,)}, hba=tuple(hba), sections=_ALLOWED, port=self._port)

    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        """Each test in a process of its own, so that one that hangs takes none along."""
        named = [
            (program, line.removesuffix(": test"))
            for program in self._programs[variant]
            for line in folders.output(program, "--list").splitlines()
            if line.endswith(": test")
        ]
        wanted = [(program, test) for program, test in named if not tests or test in tests]
        with ThreadPoolExecutor(_PROCESSES) as pool:
            played = list(pool.map(lambda it: _play(*it), wanted))
        log.write_text("".join(output for output, _ in played))
        Results({test: outcome for (_, test), (_, outcome) in zip(wanted, played, strict=True)}).write(results)
        return f"{len(wanted)} tests played"


def _play(program: Path, test: str) -> tuple[str, Outcome]:
    """One test: what it printed, and how it ended."""
    command = [program, "--exact", test]
    # Where a test that panics was called from does not matter, and takes long to find out.
    environment = {**os.environ, "RUST_BACKTRACE": "0"}
    pipe = subprocess.PIPE
    try:
        done = subprocess.run(
            command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, timeout=_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired as expired:
        printed = expired.stdout if isinstance(expired.stdout, str) else ""
        return printed, Outcome(Kind.FAILED, f"no end after {_LIMIT_SECONDS} s")
    word = match[1] if (match := _ENDED.search(done.stdout)) else "FAILED"
    complaint = _COMPLAINT.search(done.stdout)
    return done.stdout, Outcome(_KINDS[word], complaint[1] if complaint else "")


_METHODS = {"pass_user": "password", "md5_user": "md5", "scram_user": "scram-sha-256"}
_ALLOWED: Sequence[Section] = [
    # A server that wants a password in clear is not content with what a login reveals to the proxy.
    ("user", {"name": "pass_user", "password": "password"}),
    ("allow", {"user": "postgres", "method": "trust"}),
    ("allow", {"user": "all", "method": "scram"}),
]
_SQL = (
    *(f"CREATE EXTENSION {name}" for name in ("citext", "hstore", "ltree")),
    "CREATE ROLE pass_user LOGIN PASSWORD 'password'",
    "CREATE ROLE scram_user LOGIN PASSWORD 'password'",
    "SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD 'password'",
)


def _cargo() -> str:
    return os.environ.get("CARGO", "cargo")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


_ENDED = re.compile(r"^test \S+(?: - should panic)? \.\.\. (ok|FAILED|ignored)", re.MULTILINE)
_COMPLAINT = re.compile(r"panicked at .*\n(.*)$", re.MULTILINE)
_KINDS = {"ok": Kind.PASSED, "FAILED": Kind.FAILED, "ignored": Kind.SKIPPED}


def _adapt(crate: Path, port: int) -> None:
    """Make the tests look at `port`."""
    for file in crate.rglob("*.rs"):
        text = file.read_text()
        if _THEIR_PORT in text:
            file.write_text(text.replace(_THEIR_PORT, str(port)))
