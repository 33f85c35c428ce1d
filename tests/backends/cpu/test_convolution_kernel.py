"""The convolution kernel: every shape within the reference's bound, in vectors and on threads or not."""

from __future__ import annotations

import numpy as np
import pytest
from support.execution import call_kernel, compare, compile_functions

from tvm_flow.backends.cpu.convolution import Convolution, convolution
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.convolution import conv2d

# images with their padding, weight
SHAPES = {
    "one_pixel": ((1, 1, 1, 1), (1, 1, 1, 1)),
    "odd_width": ((1, 3, 7, 7), (8, 3, 3, 3)),
    "odd_channels": ((2, 3, 6, 10), (7, 3, 3, 3)),
    "pointwise": ((2, 5, 4, 16), (12, 5, 1, 1)),
    "vectors": ((1, 4, 10, 34), (6, 4, 3, 3)),
    "threads": ((2, 16, 18, 18), (24, 16, 3, 3)),
    "oblong": ((1, 2, 5, 9), (4, 2, 1, 2)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_is_within_the_bound(name: str) -> None:
    shapes, rng = Convolution(*SHAPES[name]), np.random.default_rng(1)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (shapes.images, shapes.weight))
    module = compile_functions({name: convolution(name, shapes)})
    got = call_kernel(module, name, [x, w], shapes.output, "float32")
    compare(conv2d(Bounded.exact(x), Bounded.exact(w)), got, name)


def test_large_ones_run_in_parallel_and_in_vectors() -> None:
    large, small = (str(convolution("c", Convolution(*SHAPES[name]))) for name in ("threads", "odd_width"))
    assert "T.parallel" in large
    assert "T.vectorized(16)" in large
    assert "T.parallel" not in small
