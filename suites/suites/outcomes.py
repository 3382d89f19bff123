"""How tests ended, and the files that say so: a JSON object a line, written while the tests run."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """How a test ended. The order is that of gravity."""

    PASSED = "passed"
    SKIPPED = "skipped"
    XFAILED = "failed as expected"
    FAILED = "failed"
    ERRORED = "errored"
    NOT_RUN = "not run"


_GRAVITY = {kind: place for place, kind in enumerate(Kind)}


@dataclass(frozen=True)
class Outcome:
    """How one test ended, and the first line of what it said about that."""

    kind: Kind
    text: str = ""


NOT_RUN = Outcome(Kind.NOT_RUN)


class Results(Mapping[str, Outcome]):
    """The outcomes of one run by the tests' names."""

    def __init__(self, outcomes: dict[str, Outcome]) -> None:
        self._outcomes = outcomes

    def __getitem__(self, test: str) -> Outcome:
        return self._outcomes.get(test, NOT_RUN)

    def __iter__(self) -> Iterator[str]:
        return iter(self._outcomes)

    def __len__(self) -> int:
        return len(self._outcomes)

    def count(self) -> Counter[Kind]:
        """How many tests ended how."""
        return Counter(outcome.kind for outcome in self._outcomes.values())

    def only(self, tests: set[str]) -> "Results":
        """The outcomes of these tests."""
        return Results({test: outcome for test, outcome in self._outcomes.items() if test in tests})

    @classmethod
    def read(cls, file: Path) -> "Results":
        """What a file says. A test that is named twice, for its parts, is as bad as its worst part."""
        outcomes: dict[str, Outcome] = {}
        for line in file.read_text().splitlines() if file.exists() else []:
            entry = json.loads(line)
            outcome = Outcome(Kind(entry["kind"]), entry["text"])
            known = outcomes.get(entry["test"])
            if known is None or _GRAVITY[outcome.kind] > _GRAVITY[known.kind]:
                outcomes[entry["test"]] = outcome
        return cls(outcomes)

    def write(self, file: Path) -> None:
        """Write a file that `read` reads."""
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"test": test, **asdict(outcome)}) for test, outcome in self._outcomes.items()]
        file.write_text("".join(f"{line}\n" for line in lines))


@dataclass(frozen=True)
class Difference:
    """A test that ends otherwise through the proxy."""

    test: str
    direct: Outcome
    through: Outcome


def differences(direct: Results, through: Results, with_text: bool) -> list[Difference]:
    """The tests that did not end alike, by name. `with_text` also compares what they said."""
    found = []
    for test in sorted({*direct, *through}):
        difference = Difference(test, direct[test], through[test])
        if difference.direct.kind != difference.through.kind or (with_text and difference.direct != difference.through):
            found.append(difference)
    return found
