"""The differences that are known and explained, and tests that end now so, now so: two tables of
`docs/compatibility.md`."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from .outcomes import Difference, Results

_HEADINGS = ("## Known differences", "## Tests that time decides")
_NAMED = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Line:
    """One line of a table: a suite (`django`) or one of its variants (`django server`), and a test or a pattern."""

    suite: str
    test: str

    def concerns(self, suite: str, variant: str) -> bool:
        """Whether it speaks of this run."""
        return self.suite in (suite, f"{suite} {variant}")

    def matches(self, test: str) -> bool:
        """Whether it speaks of this test. Only `*` is special: names of parametrised tests contain brackets."""
        return fnmatchcase(test, self.test.replace("[", "[[]"))


@dataclass(frozen=True)
class Document:
    """What the tables say about one run."""

    # What must differ.
    known: list[Line]
    # What may differ.
    unsteady: list[Line]


def read(document: Path, suite: str, variant: str) -> Document:
    """The lines that concern a run. Their first two columns are suite and test, the test between backticks."""
    text = document.read_text() if document.exists() else ""
    tables = ([line for line in _table(text, heading) if line.concerns(suite, variant)] for heading in _HEADINGS)
    return Document(*tables)


def _table(text: str, heading: str) -> list[Line]:
    section = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip().strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [Line(row[0].strip(), named[1]) for row in rows if (named := _NAMED.search(row[1]))]


@dataclass(frozen=True)
class Verdict:
    """What is not as the tables say."""

    unlisted: list[Difference]
    # Lines of known differences whose tests were run and did not differ.
    stale: list[Line]

    def is_good(self) -> bool:
        """Whether the tables tell the truth about this run."""
        return not self.unlisted and not self.stale


def judge(document: Document, found: list[Difference], through: Results) -> Verdict:
    """Hold the differences of a run against the lines that concern it."""
    listed = document.known + document.unsteady
    unlisted = [difference for difference in found if not any(line.matches(difference.test) for line in listed)]
    differing = {difference.test for difference in found}
    stale = [
        line
        for line in document.known
        if any(line.matches(test) for test in through) and not any(line.matches(test) for test in differing)
    ]
    return Verdict(unlisted, stale)
