from __future__ import annotations

import pytest
from support import small_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> small_demo.SmallDemo:
    return small_demo.build(tmp_path_factory.getbasetemp())
