"""The convolution kernel: every shape within the reference's bound, in vectors and on threads or not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.execution import HOST, call_kernel, compare, compile_functions

from tvm_flow.backends.cpu.convolution import Convolution, convolution, weight_layout
from tvm_flow.backends.cpu.registers import PLAIN, Registers, registers_of
from tvm_flow.check.kernels import link_kernel, run_kernel
from tvm_flow.check.machines import machine_of
from tvm_flow.graph.constants import RULES
from tvm_flow.numerics.bounded import Bounded
from tvm_flow.numerics.convolution import conv2d
from tvm_flow.target.spec import load_target

WIDE = Registers(32, 16)
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


@pytest.mark.parametrize("registers", [registers_of(HOST.features), PLAIN], ids=["host", "plain"])
@pytest.mark.parametrize("name", SHAPES)
def test_is_within_the_bound(name: str, registers: Registers) -> None:
    shapes, rng = Convolution(*SHAPES[name]), np.random.default_rng(1)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (shapes.images, shapes.weight))
    layout = weight_layout(shapes, registers)
    layouts = {"plain": None, "packed": layout}
    module = compile_functions({each: convolution(each, shapes, registers, layouts[each]) for each in layouts})
    expected = conv2d(Bounded.exact(x), Bounded.exact(w))
    for kernel, weight in {"plain": w, "packed": layout.pack(w)}.items():
        compare(expected, call_kernel(module, kernel, [x, weight], shapes.output, "float32"), f"{name}, {kernel}")


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_packed_can_be_unpacked(name: str) -> None:
    shapes = Convolution(*SHAPES[name])
    w, layout = np.arange(np.prod(shapes.weight)).reshape(shapes.weight), weight_layout(shapes, PLAIN)
    packed = RULES[layout.rule](w, *layout.options)
    assert packed.shape == layout.shape(w.shape)
    np.testing.assert_array_equal(layout.unpack(packed, w.shape), w)
    assert packed[layout.at(shapes.weight[0] - 1, 0, 0, 0)] == w[-1, 0, 0, 0]


def test_neon_is_within_the_bound(tmp_path: Path) -> None:
    target, shapes = load_target("raspberry-pi-4"), Convolution(*SHAPES["vectors"])
    rng = np.random.default_rng(1)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (shapes.images, shapes.weight))
    registers = registers_of(target.features)
    layout = weight_layout(shapes, registers)
    kernel = convolution("c", shapes, registers, layout)
    command = link_kernel("c", kernel, target, tmp_path, machine_of(target).command)
    got = run_kernel(command, (x, layout.pack(w), np.zeros(shapes.output, np.float32)))
    compare(conv2d(Bounded.exact(x), Bounded.exact(w)), got)


def test_large_ones_run_in_parallel_and_in_vectors() -> None:
    large, small = (str(convolution("c", Convolution(*SHAPES[name]), WIDE)) for name in ("threads", "odd_width"))
    assert "T.parallel" in large
    assert "T.vectorized(T.int64(16))" in large
    assert "T.parallel" not in small
