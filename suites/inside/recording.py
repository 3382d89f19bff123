"""Writes how tests ended, a JSON object a line. Runs inside a foreign test suite, so it imports nothing of ours."""

import json
import os
from pathlib import Path

_FILE = Path(os.environ["HIGHWATER_SUITE_RESULTS"])


def record(test: str, kind: str, text: str = "") -> None:
    """Append one outcome; `kind` as in `suites.outcomes.Kind`."""
    lines = text.strip().splitlines()
    with _FILE.open("a") as file:
        print(json.dumps({"test": test, "kind": kind, "text": lines[0] if lines else ""}), file=file)
