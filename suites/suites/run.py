"""One suite, run directly and through the proxy, and the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import folders, known, report, stage
from .outcomes import Results, differences
from .suite import Suite


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
    """The files of one variant of a suite."""

    folder: Path

    def direct(self, key: str) -> Path:
        return self.folder / f"direct-{key}.jsonl"

    @property
    def through(self) -> Path:
        return self.folder / "through.jsonl"

    @property
    def differing(self) -> Path:
        return self.folder / "differing.jsonl"


def _variant(suite: Suite, variant: str, wanted: Wanted, versions: str) -> bool:
    files = _Files(folders.TARGET / "results" / f"{suite.name}-{variant}")
    tests = _tests(suite, wanted, files)
    if wanted.differing and not tests:
        print(f"{suite.name} {variant}: nothing differed in the last run")
        return True
    direct_file = files.direct(folders.digest(versions, str(suite.need()), *sorted(tests)))
    if wanted.fresh or not direct_file.exists():
        _directly(suite, variant, tests, direct_file)
    direct = Results.read(direct_file)
    through = _through(suite, variant, tests, files, wanted.settings)
    found = differences(direct, through, suite.compares_text)
    Results({difference.test: difference.through for difference in found}).write(files.differing)
    (files.folder / "differing.txt").write_text(report.causes(found) + "\n" + "".join(map(report.described, found)))
    lines = [line for line in known.read(folders.DOCUMENT) if line.concerns(suite.name, variant)]
    verdict = known.judge(lines, found, through)
    report.show(f"{suite.name} {variant}", direct, through, found, verdict)
    return verdict.is_good() and bool(direct)


def _tests(suite: Suite, wanted: Wanted, files: _Files) -> Sequence[str]:
    if wanted.differing:
        return list(Results.read(files.differing))
    return wanted.tests or (suite.slice() if wanted.slice else ())


def _directly(suite: Suite, variant: str, tests: Sequence[str], file: Path) -> None:
    """Run against the primary. The file appears when all is done, so that an aborted run is no run."""
    unfinished = file.with_suffix(".unfinished")
    _empty(unfinished)
    need = suite.need()
    with stage.cluster(need) as lab, stage.direct(lab, need) as place:
        ended = suite.run(place, variant, tests, unfinished, file.with_suffix(".log"))
    print(f"{suite.name} {variant}, direct: {ended}", flush=True)
    unfinished.rename(file)


def _through(suite: Suite, variant: str, tests: Sequence[str], files: _Files, settings: Mapping[str, Any]) -> Results:
    _empty(files.through)
    need = suite.need()
    with stage.cluster(need) as lab, stage.proxy(lab, need, files.folder / "proxy", settings) as proxy:
        place = stage.Place(port=proxy.port, primary=lab.primary)
        ended = suite.run(place, variant, tests, files.through, files.folder / "through.log")
        (files.folder / "routes.txt").write_text(stage.routes(proxy))
        print(f"{suite.name} {variant}, through the proxy: {ended}; {stage.share(proxy, lab)}", flush=True)
    return Results.read(files.through)


def _empty(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("")
