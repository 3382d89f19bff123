"""pgbench: all its modes and scripts. Each scenario counts transactions, and balances must add up afterwards.

A random seed makes the same clients do the same work in both places, so that sums can be compared to the last digit.
"""

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import folders
from .outcomes import Kind, Outcome, Results
from .stage import Need, Place
from .suite import Suite

_SCRIPTS = folders.HERE / "pgbench"
_CLIENTS = 4
_TRANSACTIONS = 150
_WORK = ("-c", str(_CLIENTS), "-j", "2", "-t", str(_TRANSACTIONS))
# The longest scenario takes some seconds.
_LIMIT_SECONDS = 120

# What pgbench's invariant says: the sums agree, and each account has what its history tells.
_SUMS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
"""


@dataclass(frozen=True)
class Scenario:
    """One call of pgbench on fresh tables."""

    name: str
    options: tuple[str, ...]
    # How the tables are made; pgbench does that through the proxy too.
    made_by: tuple[str, ...] = ()
    # Lines of pgbench's report that must be the same in both places.
    told: tuple[str, ...] = ("number of transactions actually processed", "number of failed transactions")
    # Which sums must be equal; an update of accounts alone leaves the others.
    sums: Callable[[tuple[int, ...]], bool] = field(default=lambda sums: len(set(sums)) == 1)
    # Whether the sums are the same in every run: not if time decides who does what, as when threads choose scripts.
    has_fixed_sums: bool = True


def _script(name: str, *more: str) -> tuple[str, ...]:
    return ("-n", "-f", str(_SCRIPTS / f"{name}.sql"), *_WORK, *more)


def _accounts_and_history(sums: tuple[int, ...]) -> bool:
    return sums[0] == sums[3] and sums[1] == sums[2] == 0


def _in_modes(name: str, options: tuple[str, ...], modes: Sequence[str], **more: object) -> list[Scenario]:
    return [Scenario(f"{name}, {mode}", (*options, "-M", mode), **more) for mode in modes]  # type: ignore[arg-type]


_ALL = ("simple", "extended", "prepared")
_PIPELINED = ("extended", "prepared")

_TIMED = ("-n", "-c", str(_CLIENTS), "-j", "2", "-T", "2")
_NO_FAILURES = ("number of failed transactions",)

SCENARIOS = [
    *_in_modes("tpc-b", _WORK, _ALL),
    *_in_modes("simple update", ("-N", *_WORK), _ALL, sums=_accounts_and_history),
    *_in_modes("select only", ("-S", *_WORK), _ALL),
    *_in_modes("mixed", ("-b", "select-only@4", "-b", "tpcb-like@1", *_WORK), _ALL, has_fixed_sums=False),
    *_in_modes("a connection for each transaction", ("-C", *_WORK), _ALL),
    *_in_modes("own writes are seen", _script("own_writes"), _ALL),
    *_in_modes("conditions", _script("conditions"), _ALL),
    *_in_modes("combined statements", _script("combined"), ("simple",)),
    *_in_modes("pipelines", _script("pipeline"), _PIPELINED),
    *_in_modes("read-only transactions", _script("read_only"), _ALL),
    *_in_modes("serializable, tried again", _script("serializable", "--max-tries=10000"), _ALL),
    *_in_modes(
        "serializable, not tried again",
        _script("serializable", "--max-tries=1"),
        ("simple",),
        told=(),
        has_fixed_sums=False,
    ),
    # In one thread: two would write their complaints into one another.
    *_in_modes("clients that fail", ("-n", "-f", str(_SCRIPTS / "failing.sql"), "-D", "n=0", *_WORK, "-j", "1"), _ALL),
    Scenario("limited latency and rate", (*_TIMED, "-R", "200", "-L", "500"), told=_NO_FAILURES, has_fixed_sums=False),
    Scenario("progress and latencies by statement", (*_TIMED, "-P", "1", "-r"), told=(), has_fixed_sums=False),
    Scenario("vacuum first", ("-v", *_WORK)),
    Scenario("many clients", ("-c", "40", "-j", "2", "-t", "20")),
    Scenario("tables made in the server", _WORK, made_by=("-I", "dtGvp")),
    Scenario("foreign keys", _WORK, made_by=("-I", "dtgvpf")),
    Scenario("partitions", _WORK, made_by=("--partitions=3", "--partition-method=hash")),
    Scenario("unlogged tables", _WORK, made_by=("--unlogged-tables",)),
]

SLICE = [
    scenario.name
    for scenario in SCENARIOS
    if scenario.name.endswith(", prepared") or scenario.name in ("tpc-b, simple", "combined statements, simple")
]


class Pgbench(Suite):
    """pgbench as PostgreSQL has it."""

    name = "pgbench"
    compares_text = True

    def variants(self) -> Sequence[str]:
        return ("all",)

    def slice(self) -> Sequence[str]:
        return SLICE

    def prepare(self) -> str:
        return "".join(script.read_text() for script in sorted(_SCRIPTS.iterdir()))

    def need(self) -> Need:
        return Need()

    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        with log.open("w") as out:
            outcomes = {}
            for scenario in SCENARIOS:
                if not tests or scenario.name in tests:
                    outcomes[scenario.name] = _play(scenario, place, lambda text: print(text, file=out, flush=True))
        Results(outcomes).write(results)
        return "all scenarios played"


class _Failed(Exception):
    """What pgbench complained of."""


def _play(scenario: Scenario, place: Place, log: Callable[[str], None]) -> Outcome:
    log(f"== {scenario.name}")
    try:
        # Some scenarios want a seed, all want few rows.
        _pgbench(place, log, "-i", "-q", *scenario.made_by)
        report = _pgbench(place, log, "--random-seed=1", *scenario.options)
    except _Failed as failed:
        return Outcome(Kind.FAILED, str(failed))
    found = tuple(int(value) for value in place.primary.rows(_SUMS)[0])
    told = [match[0] for name in scenario.told if (match := re.search(rf"^{re.escape(name)}.*$", report, re.MULTILINE))]
    if not scenario.sums(found):
        return Outcome(Kind.FAILED, f"balances do not add up: {found}")
    return Outcome(Kind.PASSED, "; ".join([*told, *(f"sum {value}" for value in found if scenario.has_fixed_sums)]))


def _pgbench(place: Place, log: Callable[[str], None], *options: str) -> str:
    command = ["pgbench", "-h", place.host, "-p", str(place.port), "-U", place.user, *options, place.database]
    log("> " + " ".join(command))
    environment = {**os.environ, "PGPASSWORD": place.password}
    pipe = subprocess.PIPE
    try:
        done = subprocess.run(command, env=environment, stdout=pipe, stderr=pipe, text=True, timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as expired:
        raise _Failed(f"no end after {_LIMIT_SECONDS} s") from expired
    log(done.stdout + done.stderr)
    if done.returncode:
        # Names of files and numbers of clients differ from run to run.
        errors = [line for line in done.stderr.splitlines() if "error" in line or "ERROR" in line]
        text = (errors or done.stderr.splitlines() or ["?"])[0]
        raise _Failed(f"exit status {done.returncode}: {re.sub(r'client [0-9]+', 'client', text)}")
    return done.stdout
