"""Conformance of what blocks in integers are made of, on the emulated device: any shape, ten times the right bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support.arm_npu import Array, codes, needs_npu_arm
from support.execution import HOST
from support.relax_kernels import like, program_of

from tvm_flow.backends.npu.arm.backend import ArmBackend, blob_of
from tvm_flow.backends.npu.arm.client import EmulatedNpu
from tvm_flow.backends.place import place_on
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.errors import BitExactError
from tvm_flow.graph.integers import integers_call
from tvm_flow.numerics.integer_program import Recorded, Recorder
from tvm_flow.numerics.integer_rows import MASKED, Attended, attention, scaling, unit_rows
from tvm_flow.numerics.integer_tables import UNIT, gelu_table

pytestmark = needs_npu_arm
SHAPES = [(1, 1, 1), (2, 3, 5), (7, 11, 13), (1, 61, 7)]
"""Rows, depth and columns, in steps that no tile divides."""
Write = Callable[[Recorder, tuple[int, int, int]], Recorded]
Case = tuple[Write, Callable[[np.random.Generator, tuple[int, int, int]], list[Array]]]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatedNpu]:
    with EmulatedNpu() as opened:
        yield opened


def _linear(r: Recorder, shape: tuple[int, int, int]) -> Recorded:
    """Sums, a bias, GELU by table, codes: one scale for each column."""
    m, k, n = shape
    x, weight, bias = r.input((1, 1, m, k), "int8"), r.input((n, 1, 1, k), "int8"), r.input((n,), "int32")
    wide = r.rescale(r.conv1x1(x, weight, bias), scaling(r, np.linspace(0.1, 0.4, n) / np.sqrt(k)), "int16")
    return r.rescale(r.table(wide, r.constant(gelu_table())), scaling(r, UNIT / 4), "int8")


def _norm(r: Recorder, shape: tuple[int, int, int]) -> Recorded:
    m, k, n = shape
    return unit_rows(r, r.input((m, n, k), "int16"), centered=True)


def _attention(r: Recorder, shape: tuple[int, int, int]) -> Recorded:
    m, k, n = shape
    q, keys, v = r.input((2, m, k), "int8"), r.input((2, k, n), "int8"), r.input((2, n, k), "int8")
    return attention(r, Attended(q, keys, v, r.input((1, 1, n), "int32")), 3e-4)


KERNELS: dict[str, Case] = {
    "linear": (
        _linear,
        lambda rng, s: [
            codes(rng, 1, 1, s[0], s[1]),
            codes(rng, s[2], 1, 1, s[1]),
            rng.integers(-9999, 9999, s[2], np.int32),
        ],
    ),
    "norm": (_norm, lambda rng, s: [codes(rng, s[0], s[2], s[1], dtype=np.int16)]),
    "attention": (
        _attention,
        lambda rng, s: [
            codes(rng, 2, s[0], s[1]),
            codes(rng, 2, s[1], s[2]),
            codes(rng, 2, s[2], s[1]),
            np.where(np.arange(s[2]) < max(1, s[2] - 2), 0, MASKED).astype(np.int32).reshape(1, 1, -1),
        ],
    ),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_ten_runs_give_the_same_bits_and_the_right_ones(
    name: str, shape: tuple[int, int, int], emulator: EmulatedNpu, tmp_path: Path
) -> None:
    (write, draw), recorder = KERNELS[name], Recorder()
    output = write(recorder, shape)
    program = recorder.program(output)
    args = [*draw(np.random.default_rng(sum(shape)), shape), *recorder.arrays]
    calls = program_of(like(lambda emit, *given: emit(integers_call(program, given)), *args), {})
    packed = place_on(calls, HOST, [ArmBackend()])
    graph = emulator.load(blob_of(packed, 0, tmp_path))
    first, *others = (emulator.run(graph, args) for _ in range(10))
    assert all(first == other for other in others)
    got, report = np.frombuffer(first, program.result.dtype).reshape(program.result.shape), ExactnessReport()
    check_call(packed, 0, (*args, got), "here", report)
    assert (report.accumulators, report.near_ties) == (got.size, 0)
    with pytest.raises(BitExactError, match="kernel k: element"):
        check_call(packed, 0, (*args, got ^ 1), "here", report)
