"""Tests that run shaders need a driver; where there is none they say so."""

import pytest

from support.vulkan_runner import missing


@pytest.fixture(scope="session")
def driver() -> None:
    if why := missing():
        pytest.skip(why)
