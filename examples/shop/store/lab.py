"""The cluster that was made for the shop: how late its replicas are. For the comparison alone."""

import subprocess

from django.conf import settings

REPLICAS = {"replica1": "standby1", "replica2": "standby2"}
LONGEST_LAG = 6.0
_lags = dict.fromkeys(REPLICAS, 0.0)


def lags() -> dict[str, float]:
    """Seconds, by alias, as they were set last."""
    return dict(_lags)


def set_lag(replica: str, seconds: float) -> None:
    """From now on a replica shows what was written so much later. Raises `KeyError` and `CalledProcessError`."""
    seconds = min(max(seconds, 0.0), LONGEST_LAG)
    command = ["lab", "lag", REPLICAS[replica], f"{round(seconds * 1000)}ms", "--dir", settings.LAB]
    subprocess.run([settings.HIGHWATER_PROGRAM, *command], check=True, capture_output=True, timeout=30)
    _lags[replica] = seconds
