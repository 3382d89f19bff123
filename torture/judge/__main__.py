"""`python -m judge FILE...`: judges histories and says what it found; the exit status is 1 if that is forbidden."""

import sys
from pathlib import Path

from . import judge, read


def main() -> int:
    """Judge the files that are named."""
    if len(sys.argv) < 2:
        print("usage: python -m judge HISTORY...", file=sys.stderr)
        return 2
    verdict = judge(read(Path(name) for name in sys.argv[1:]))
    print(f"operations: {dict(verdict.operations)}")
    print(f"outcomes: {dict(verdict.outcomes)}")
    print(f"losses told: {verdict.told}; tokens refused: {verdict.refused}")
    print(f"strong reads judged: {verdict.strong_judged}")
    print(f"longest operation: {verdict.longest_seconds:.2f} s")
    print(f"violations: {dict(verdict.violations) or 'none'}")
    for line in verdict.evidence:
        print(line)
    return 0 if verdict.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
