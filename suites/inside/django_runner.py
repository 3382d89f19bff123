"""Django's test runner, except that it writes down how each test ended, and ends tests that hang."""

import signal
import traceback
import unittest
from types import FrameType
from typing import Any

from django.test.runner import DiscoverRunner, ParallelTestSuite, RemoteTestResult, RemoteTestRunner
from recording import record

# The longest test takes some ten seconds on a busy machine.
_LIMIT_SECONDS = 120


def _give_up(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"no end after {_LIMIT_SECONDS} s")


def _message(error: Any) -> str:
    return traceback.format_exception_only(error[0], error[1])[-1]


class _Limited:
    """Sets an alarm for each test."""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        signal.signal(signal.SIGALRM, _give_up)
        signal.alarm(_LIMIT_SECONDS)
        super().startTest(test)  # type: ignore[misc]

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        signal.alarm(0)
        super().stopTest(test)  # type: ignore[misc]


class _RecordingResult(unittest.TextTestResult):
    """Records what Django's processes report."""

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addSuccess(test)
        record(test.id(), "passed")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        record(test.id(), "failed", _message(err))

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        record(test.id(), "errored", _message(err))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        record(test.id(), "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        record(test.id(), "failed as expected", _message(err))

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        record(test.id(), "failed", "unexpected success")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            record(test.id(), "failed" if issubclass(err[0], test.failureException) else "errored", _message(err))


class _SerialResult(_Limited, _RecordingResult):
    """What runs and records in one process."""


class _RemoteResult(_Limited, RemoteTestResult):
    """What runs in one of several processes; the first process records."""


class _RemoteRunner(RemoteTestRunner):
    resultclass = _RemoteResult


class _ParallelSuite(ParallelTestSuite):
    runner_class = _RemoteRunner


class Recorder(DiscoverRunner):
    """Django's runner with our results."""

    parallel_test_suite = _ParallelSuite

    def get_resultclass(self) -> type[unittest.TextTestResult]:
        """The results of the first process; alarms are for those that run tests."""
        return _RecordingResult if self.parallel > 1 else _SerialResult
