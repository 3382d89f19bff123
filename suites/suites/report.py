"""What a person reads after a run."""

import re
from collections import Counter

from .known import Verdict
from .outcomes import Difference, Kind, Results

# What is shown of what a test said.
_TEXT_MAX = 160
# More than anybody reads at a terminal; the file has all.
_SHOWN_MAX = 50
# What differs between two complaints of the same kind.
_NAMES = re.compile(r"\"[^\"]*\"|'[^']*'|\d+")


def show(title: str, direct: Results, through: Results, found: list[Difference], verdict: Verdict) -> None:
    """Print the counts of both runs, the differing tests, and where the table of known differences is wrong."""
    counts = direct.count(), through.count()
    kinds = [kind for kind in Kind if counts[0][kind] or counts[1][kind]]
    width = max([len(kind) for kind in kinds], default=0) + 2
    print(f"\n{title:<18}" + "".join(f"{kind:>{width}}" for kind in kinds))
    for name, count in zip(("direct", "through the proxy"), counts, strict=True):
        print(f"{name:<18}" + "".join(f"{count[kind]:>{width}}" for kind in kinds))
    listed = len(found) - len(verdict.unlisted)
    print(f"differing: {len(found)}, of which listed in docs/compatibility.md: {listed}")
    print("".join(map(described, verdict.unlisted[:_SHOWN_MAX])), end="")
    if len(verdict.unlisted) > _SHOWN_MAX:
        print(f"  and {len(verdict.unlisted) - _SHOWN_MAX} more")
    for line in verdict.stale:
        print(f"  listed in docs/compatibility.md and does not differ: {line.suite} {line.test}")
    print(flush=True)


def described(difference: Difference) -> str:
    """A test and how it ended in both places."""
    lines = [f"  {difference.test}"]
    for place, outcome in (("direct", difference.direct), ("through", difference.through)):
        lines.append(f"    {place}: {outcome.kind} {outcome.text[:_TEXT_MAX]}".rstrip())
    return "".join(f"{line}\n" for line in lines)


def causes(found: list[Difference]) -> str:
    """How often which complaint was the first line of a test that ended otherwise, most frequent first."""
    counted = Counter(_NAMES.sub("...", difference.through.text) for difference in found)
    return "".join(f"{count:>6}  {text[:_TEXT_MAX]}\n" for text, count in counted.most_common())
