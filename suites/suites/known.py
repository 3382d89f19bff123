"""The differences that are known and explained: the table in `docs/compatibility.md` under *Known differences*."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .outcomes import Difference, Results

_HEADING = "## Known differences"
_NAMED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Known:
    """One line of the table: a suite (`django`) or one of its variants (`django server`), and a test or a pattern."""

    suite: str
    test: str

    def concerns(self, suite: str, variant: str) -> bool:
        """Whether it speaks of this run."""
        return self.suite in (suite, f"{suite} {variant}")

    def matches(self, test: str) -> bool:
        """Whether it speaks of this test. Only `*` is special: names of parametrised tests contain brackets."""
        return fnmatchcase(test, self.test.replace("[", "[[]"))


def read(document: Path) -> list[Known]:
    """All lines of the table. Its first two columns are suite and test, the test between backticks."""
    text = document.read_text() if document.exists() else ""
    section = text.partition(f"\n{_HEADING}\n")[2].partition("\n## ")[0]
    rows = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [Known(row[0].strip(), named[1]) for row in rows if (named := _NAMED.search(row[1]))]


@dataclass(frozen=True)
class Verdict:
    """What is not as the table says."""

    unlisted: list[Difference]
    # Lines whose tests were run and did not differ.
    stale: list[Known]

    def is_good(self) -> bool:
        """Whether the table tells the truth about this run."""
        return not self.unlisted and not self.stale


def judge(known: Iterable[Known], found: list[Difference], through: Results) -> Verdict:
    """Hold the differences of a run against the lines that concern it."""
    known = list(known)
    unlisted = [difference for difference in found if not any(line.matches(difference.test) for line in known)]
    differing = {difference.test for difference in found}
    stale = [
        line
        for line in known
        if any(line.matches(test) for test in through) and not any(line.matches(test) for test in differing)
    ]
    return Verdict(unlisted, stale)
