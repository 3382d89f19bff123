"""Which tests run in one process (pytest-xdist): those of a file, which share its cluster, but for some files."""

from collections.abc import Callable
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling


def apart(*files: str) -> Callable[..., LoadFileScheduling | None]:
    """The hook for a conftest, `--dist loadfile`: in these files each test has a cluster of its own, and runs anywhere.

    They come last, behind the files in the order of their sizes. (xdist's own groups are not known to this pytest.)
    """

    class Spread(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return nodeid if scope.rpartition("/")[2] in files else scope

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
        return Spread(config, log) if config.getvalue("dist") == "loadfile" else None

    return pytest_xdist_make_scheduler
