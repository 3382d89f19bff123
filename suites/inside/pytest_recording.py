"""A pytest plugin that writes down how each test ended."""

from collections.abc import Generator

import pytest
from recording import record

_worst: dict[str, tuple[str, str]] = {}


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """Note the worst of set-up, call and tear-down; record it after the last."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    found = _of(report)
    if found and (report.nodeid not in _worst or found[0] in ("failed", "errored")):
        _worst[report.nodeid] = found
    if report.when == "teardown":
        record(report.nodeid, *_worst.pop(report.nodeid))


def _of(report: pytest.TestReport) -> tuple[str, str] | None:
    if hasattr(report, "wasxfail"):
        return ("failed as expected" if report.skipped else "passed"), str(report.wasxfail)
    if report.skipped:
        return "skipped", str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
    if report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr).strip().splitlines()[-1]
        return ("failed" if report.when == "call" else "errored"), text
    return ("passed", "") if report.when == "call" else None
