"""Kernels of the tiny model that can be tuned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.board_farm import Farm, running_farm

from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels


@pytest.fixture(scope="session")
def kernels(exported: Exported, host: TargetSpec) -> list[TunedKernel]:
    return tuned_kernels(exported, host, 1, lambda _: True, progress=False)


@pytest.fixture(scope="session")
def product(kernels: list[TunedKernel]) -> TunedKernel:
    return next(each for each in kernels if each.task.label.startswith("product"))


@pytest.fixture(scope="session")
def farm() -> Iterator[Farm]:
    """One board for all tests here: give it back."""
    with running_farm() as made:
        yield made
