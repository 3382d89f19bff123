"""One suite, run directly and through the proxy, and the comparison."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import folders, known, report, stage
from .outcomes import Results, differences
from .suite import Failed, Suite


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    # The tests to run; none means all.
    tests: Sequence[str] = ()
    slice: bool = False
    # Only the tests that differed in the last run.
    differing: bool = False
    # Run directly even if it is known how that ends.
    fresh: bool = False
    # Settings of the proxy.
    settings: Mapping[str, Any] = field(default_factory=dict)


def run(suite: Suite, wanted: Wanted) -> bool:
    """Run it in all its variants and print what differs; say whether that is as the table of differences has it."""
    versions = suite.prepare()
    # All of them, whatever the first one says.
    good = [_variant(suite, variant, wanted, versions) for variant in suite.variants()]
    return all(good)


@dataclass(frozen=True)
class _Files:
    """The files of one variant of a suite. Runs of different scope leave each other's alone."""

    folder: Path
    scope: str

    def direct(self, key: str) -> Path:
        return self.folder / f"direct-{key}.jsonl"

    def through(self, name: str) -> Path:
        return self.folder / self.scope / name

    @property
    def results(self) -> Path:
        return self.through("results.jsonl")

    @property
    def differing(self) -> Path:
        return self.through("differing.jsonl")


def _variant(suite: Suite, variant: str, wanted: Wanted, versions: str) -> bool:
    folder = folders.TARGET / "results" / f"{suite.name}-{variant}"
    scope = "some" if wanted.tests else "slice" if wanted.slice else "all"
    tests = wanted.tests or (suite.slice() if wanted.slice else ())
    if wanted.differing:
        scope, tests = "differing", list(Results.read(_Files(folder, scope).differing))
        if not tests:
            print(f"{suite.name} {variant}: nothing differed in the last run")
            return True
    files = _Files(folder, scope)
    how = Path(inspect.getfile(type(suite))).read_text()
    direct_file = files.direct(folders.digest(versions, how, str(suite.need()), *sorted(tests)))
    if wanted.fresh or not direct_file.exists():
        _directly(suite, variant, tests, direct_file)
    direct = Results.read(direct_file)
    through = _through(suite, variant, tests, files, wanted.settings)
    found = differences(direct, through, suite.compares_text)
    Results({difference.test: difference.through for difference in found}).write(files.differing)
    files.through("differing.txt").write_text(report.causes(found) + "\n" + "".join(map(report.described, found)))
    verdict = known.judge(known.read(folders.DOCUMENT, suite.name, variant), found, through)
    report.show(f"{suite.name} {variant}", direct, through, found, verdict)
    return verdict.is_good()


def _directly(suite: Suite, variant: str, tests: Sequence[str], file: Path) -> None:
    """Run against the primary. The file appears when all is done, so that an aborted run is no run."""
    unfinished = file.with_suffix(".unfinished")
    _empty(unfinished)
    need = suite.need()
    with stage.cluster(need) as lab, stage.direct(lab, need) as place:
        log = file.with_suffix(".log")
        ended = suite.run(place, variant, tests, unfinished, log)
    print(f"{suite.name} {variant}, direct: {ended}", flush=True)
    if not Results.read(unfinished):
        raise Failed(f"not one test of {suite.name} was run; {log} says why")
    unfinished.rename(file)


def _through(suite: Suite, variant: str, tests: Sequence[str], files: _Files, settings: Mapping[str, Any]) -> Results:
    _empty(files.results)
    need = suite.need()
    with stage.cluster(need) as lab, stage.proxy(lab, need, files.through("proxy"), settings) as proxy:
        place = stage.Place(port=proxy.port, primary=lab.primary)
        ended = suite.run(place, variant, tests, files.results, files.through("log.txt"))
        files.through("routes.txt").write_text(stage.routes(proxy))
        print(f"{suite.name} {variant}, through the proxy: {ended}; {stage.share(proxy, lab)}", flush=True)
    return Results.read(files.results)


def _empty(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
