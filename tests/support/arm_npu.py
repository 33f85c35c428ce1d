"""Running TOSA graphs in tests, where Arm's packages are installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tvm_flow.backends.npu.arm.tosa import TosaGraph, Value
from tvm_flow.toolchain.arm_npu import missing_packages, reference_outputs, serialized

Array = npt.NDArray[Any]
MISSING = missing_packages()
needs_npu_arm = pytest.mark.skipif(
    bool(MISSING), reason=f"extra npu-arm: {', '.join(MISSING)} not installed; pip install tvm-flow[npu-arm]"
)


def graph_of(build: Callable[..., Value], inputs: Sequence[Array]) -> tuple[bytes, Value]:
    """The flatbuffer that ``build`` makes of a graph and its inputs, and the graph's output."""
    graph = TosaGraph()
    given = [graph.input(array.shape, str(array.dtype)) for array in inputs]
    output = build(graph, *given)
    return serialized(graph.text(output)), output


def by_reference_model(build: Callable[..., Value], *inputs: Array) -> Array:
    """What the specification's model computes."""
    made, output = graph_of(build, inputs)
    (found,) = reference_outputs(made, inputs)
    return found.view(output.dtype).reshape(output.shape)


def codes(rng: np.random.Generator, *shape: int, dtype: Any = np.int8) -> Array:
    """Random integers of the whole range, its ends among them."""
    limits = np.iinfo(dtype)
    found = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    found.reshape(-1)[:2] = (limits.min, limits.max)[: found.size]
    return found
