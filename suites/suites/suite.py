"""What a foreign test suite must tell to be run twice and compared."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from .stage import Need, Place


class Missing(Exception):
    """Something that cannot be had from a registry."""


class Failed(Exception):
    """A suite that cannot be run."""


class Suite(ABC):
    """One foreign suite."""

    name: str
    # Whether tests must also say the same in both runs, not only end alike.
    compares_text = False

    @abstractmethod
    def variants(self) -> Sequence[str]:
        """The ways in which it is run, each against both places."""

    @abstractmethod
    def slice(self) -> Sequence[str]:
        """The tests that are worth their time in every run of CI."""

    @abstractmethod
    def prepare(self) -> str:
        """Download and build what it needs; return what its results depend on, such as versions."""

    @abstractmethod
    def need(self) -> Need:
        """What it wants of the cluster and of the proxy."""

    @abstractmethod
    def run(self, place: Place, variant: str, tests: Sequence[str], results: Path, log: Path) -> str:
        """Run these tests, or all; write outcomes to `results`, the suite's own output to `log`; say how it ended."""
