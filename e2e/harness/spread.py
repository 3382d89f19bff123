"""Which tests run in one process (pytest-xdist): those of a file, which share its cluster, but for some files."""

from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling


def apart(*files: str) -> Callable[..., LoadFileScheduling]:
    """The hook for a conftest: in these files each test has a cluster of its own, and runs wherever there is room.

    They come last, behind the files in the order of their sizes. (xdist's own groups are not known to this pytest.)
    """

    class Spread(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return nodeid if scope.rpartition("/")[2] in files else scope

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
        return Spread(config, log)

    return pytest_xdist_make_scheduler
