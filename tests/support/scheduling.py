"""Which worker of pytest-xdist runs what: tests that share a bundle in one, or each worker compiles it again."""

from __future__ import annotations

from typing import Any

import pytest

SHARED = {
    "the demo model": ("tests/pipeline/", "tests/cli/"),
    "the tiny model": ("tests/compile/", "tests/check/", "tests/plan/", "tests/tune/"),
    "the benches": ("tests/bench/",),
    "the shaders": ("tests/backends/vulkan/",),
}
"""Folders by what they compile once a session; the first units to start, having the most tests.

The units start by their number of tests, so that a module of two long ones would come last and keep one worker waiting:
half a minute of the NPU's bench, or of the Vulkan targets.
"""


def unit_of(nodeid: str) -> str:
    """Of a test: all tests of a unit run in one worker, one after another. A module is one, or a row of `SHARED`."""
    module = nodeid.partition("::")[0]
    return next((name for name, folders in SHARED.items() if module.startswith(folders)), module)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For ``--dist loadscope``."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(nodeid)

    return Scheduling(config, log) if config.getoption("dist") == "loadscope" else None
