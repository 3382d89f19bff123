"""`cargo xtask torture`: clients and faults on a real cluster behind several Highwater processes, judged afterwards."""

import argparse
import multiprocessing
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psycopg

from harness.lab import binary

from . import network, report
from .nemesis import Nemesis
from .pairs import measure
from .stage import Stage
from .workload import Plan, Shared, work

HERE = Path(__file__).resolve().parents[1]
OUT = HERE.parent / "target" / "torture"
# The machine's cores are shared with the servers and the proxies.
PROCESSES = 2
SAMPLE_SECONDS = 0.5


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="cargo xtask torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the faults and of what clients do; a new one when absent")
    parser.add_argument("--seconds", type=float, default=60, help="how long at least")
    parser.add_argument("--operations", type=int, default=0, help="how many operations at least")
    parser.add_argument("--faults", type=int, default=0, help="how many faults at least")
    parser.add_argument("--promotions", type=int, default=0, help="how many promotions at least")
    parser.add_argument("--sessions", type=int, default=16, help="how many clients at once")
    parser.add_argument("--proxies", type=int, default=2, help="how many Highwater processes")
    parser.add_argument("--control", action="store_true", help="the article's router instead; it must be found out")
    parser.add_argument("--pairs", type=int, help="instead: so many pairs of reads, on a standby, then on the primary")
    return parser.parse_args()


def main() -> int:
    """Run, judge, report."""
    wanted = options()
    seed = random.SystemRandom().randrange(1 << 32) if wanted.seed is None else wanted.seed
    # The article's router is found out without.
    has_partitions = network.enter() and not wanted.control
    folder = OUT / ("pairs" if wanted.pairs else "control" if wanted.control else "run")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if wanted.pairs:
        return measure(folder, wanted.pairs)
    print(f"seed {seed}, {wanted.sessions} clients", flush=True)
    stage = Stage(folder, 2 * wanted.sessions, 0 if wanted.control else wanted.proxies, has_partitions)
    try:
        began = time.monotonic()
        events, samples = torment(stage, wanted, seed, folder)
        seconds = time.monotonic() - began
        version = stage.primary.value("SELECT version()")
    finally:
        stage.close()
    judging = [sys.executable, "-m", "judge", *map(str, sorted(folder.glob("*.jsonl")))]
    judged = subprocess.run(judging, capture_output=True, text=True, cwd=HERE)
    faults = Counter(event["fault"] for event in events if "fault" in event)
    facts = {
        "what": "the article's router" if wanted.control else f"{wanted.proxies} Highwater processes",
        "Highwater": subprocess.run([binary(), "--version"], capture_output=True, text=True).stdout.strip(),
        "PostgreSQL": version,
        "seed": seed,
        "clients": wanted.sessions,
        "seconds": round(seconds),
        "faults": sum(faults.values()),
        "promotions": sum("kept" in event for event in events),
        "partitions": "between network namespaces, one for each server" if has_partitions else "none",
    }
    report.write(folder / "report.html", facts, judged.stdout + judged.stderr, events, samples)
    print("\n".join(f"{name}: {value}" for name, value in facts.items()))
    print(f"faults by kind: {dict(faults)}\n{judged.stdout}{judged.stderr}report: {folder / 'report.html'}")
    if wanted.control:
        # A judge that finds nothing here would find nothing anywhere.
        return 0 if judged.returncode == 1 and "violations: {" in judged.stdout else 1
    return judged.returncode


def torment(
    stage: Stage, wanted: argparse.Namespace, seed: int, folder: Path
) -> tuple[list[dict[str, object]], list[report.Sample]]:
    """Clients and faults, until there have been enough of both."""
    context = multiprocessing.get_context("spawn")
    starts = context.Array("i", max(1, wanted.proxies))
    shared = Shared(context.Value("q", 0), context.Value("q", 0), context.Event(), starts)
    ports = tuple(server.port for server in (stage.lab.servers if wanted.control else stage.proxies))
    plan = Plan(seed, wanted.sessions, folder, ports, wanted.control)
    numbers = list(range(wanted.sessions))
    shares = [numbers[share::PROCESSES] for share in range(PROCESSES)]
    workers = [context.Process(target=work, args=(share, plan, shared), daemon=True) for share in shares]
    for worker in workers:
        worker.start()
    samples: list[report.Sample] = []
    sampler = threading.Thread(target=sample, args=(stage, shared, samples), daemon=True)
    sampler.start()
    nemesis = Nemesis(stage, random.Random(seed), starts)
    mild = [nemesis.replay_paused, nemesis.replay_delayed]
    end = time.monotonic() + wanted.seconds

    def is_enough() -> bool:
        faults = sum("fault" in event for event in nemesis.events)
        promotions = sum("kept" in event for event in nemesis.events)
        return (
            time.monotonic() >= end
            and shared.operations.value >= wanted.operations
            and faults >= wanted.faults
            and promotions >= wanted.promotions
        )

    while not is_enough():
        if not all(worker.is_alive() for worker in workers):
            raise RuntimeError("a worker has died")
        if wanted.control:
            nemesis.carry_out(nemesis.dice.choice(mild))
        else:
            nemesis.strike()
        last = nemesis.events[-1]
        done = (last["end"] - last["begin"]) / 1e9
        print(f"{shared.operations.value:>9} operations; {last['fault']} {done:.1f} s", flush=True)
        shared.stop.wait(nemesis.dice.uniform(0.1, 0.6))
    shared.stop.set()
    for worker in workers:
        worker.join(timeout=60)
        if worker.is_alive() or worker.exitcode:
            raise RuntimeError(f"a worker has not ended well: {worker.exitcode}")
    return nemesis.events, samples


def sample(stage: Stage, shared: Shared, samples: list[report.Sample]) -> None:
    """Look at lag and rate now and then."""
    while not shared.stop.wait(SAMPLE_SECONDS):
        with suppress(psycopg.Error):
            lag = stage.lag_bytes()
            samples.append(report.Sample(time.monotonic_ns(), shared.reads.value, lag))


if __name__ == "__main__":
    sys.exit(main())
