"""Running a foreign test suite: its output into a file, and an end to it when it makes no progress."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# How often progress is looked for.
_INTERVAL_SECONDS = 0.2


def watch(
    command: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    progress: Path,
    silence_seconds: float,
) -> str:
    """Run it and return how it ended. Ends it when neither `log` nor `progress` has grown for `silence_seconds`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    size, since = -1, time.monotonic()
    try:
        while process.poll() is None:
            time.sleep(_INTERVAL_SECONDS)
            now = sum(file.stat().st_size for file in (log, progress) if file.exists())
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > silence_seconds:
                return f"ended after {silence_seconds:.0f} s without progress"
    finally:
        # Also what it has started and left behind.
        _end(process)
    return f"exit status {process.returncode}"


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
