"""Conformance of kernels on the emulated device: the backend's own arithmetic, any shape, ten times the same bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arm_npu import Array, codes, needs_npu_arm
from support.execution import HOST
from support.relax_kernels import gated, gelu_codes, like, linear, program_of
from tvm.relax import op as R

from tvm_flow.backends.npu.arm.backend import ArmBackend, blob_of
from tvm_flow.backends.npu.arm.client import EmulatedNpu
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.backends.place import place_on
from tvm_flow.check.calls import ExactnessReport, check_call
from tvm_flow.errors import BitExactError, RuntimeFailure
from tvm_flow.graph.constants import evaluate
from tvm_flow.numerics.reference import execute

pytestmark = needs_npu_arm
SHAPES = [(1, 1, 1), (2, 3, 5), (7, 11, 13), (17, 19, 23), (1, 128, 7), (61, 64, 96)]
"""M, K, N in prime steps: padding and edges of tiles are where emulators and devices go wrong."""
Kernel = Callable[..., Any]


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatedNpu]:
    opened = EmulatedNpu()
    yield opened
    assert opened.close() == 0


def arrays(rng: np.random.Generator, m: int, k: int, n: int) -> list[Array]:
    """Codes, weights, the sums' scale and bias, a gain, and a scalar step or a residual."""
    scale = (rng.uniform(0.2, 1.0, n) * 3 / (127 * 127 * np.sqrt(k))).astype(np.float32)
    bias, gain = rng.normal(0, 0.5, n).astype(np.float32), rng.uniform(0.5, 2.0, n).astype(np.float32)
    return [codes(rng, m, k), codes(rng, k, n), scale, bias, gain, np.array(0.03, np.float32)]


def placed(kernel: Kernel, given: list[Array], inputs: set[int]) -> PackedProgram:
    program = program_of(like(kernel, *given), {i: a for i, a in enumerate(given) if i not in inputs})
    return place_on(program, HOST, [ArmBackend()])


def arguments(packed: PackedProgram, given: list[Array]) -> list[Array]:
    """What the device reads: inputs, and constants as it wants them."""
    (call,) = packed.program.calls
    held = packed.program.graph.given
    return [
        evaluate(packed.constants[name], held) if name in packed.constants else given[int(name[1:])]
        for name in call.args
    ]


def run(packed: PackedProgram, args: list[Array], emulator: EmulatedNpu, folder: Path, times: int) -> list[Array]:
    graph, spec = emulator.load(blob_of(packed, 0, folder)), packed.program.tensors["out"]
    return [np.frombuffer(emulator.run(graph, args), spec.dtype).reshape(spec.shape) for _ in range(times)]


KERNELS: dict[str, tuple[Kernel, set[int]]] = {
    "linear": (linear, {0}),
    "gated": (gated, {0, 5}),
    "gelu_codes": (gelu_codes, {0}),
    "float product": (lambda emit, a, b: emit(R.matmul(a, b)), {0}),
}


def case(name: str, m: int, k: int, n: int) -> tuple[PackedProgram, list[Array]]:
    rng, (kernel, inputs) = np.random.default_rng(m * k * n), KERNELS[name]
    given = arrays(rng, m, k, n)
    if name == "linear":
        given = given[:4]
    elif name == "gated":
        given[5] = rng.standard_normal((m, n)).astype(np.float32)
    elif name == "float product":
        given = [rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n))]
    return placed(kernel, given, inputs), given


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_ten_runs_give_the_same_bits_and_the_right_ones(
    name: str, shape: tuple[int, int, int], emulator: EmulatedNpu, tmp_path: Path
) -> None:
    packed, given = case(name, *shape)
    args = arguments(packed, given)
    first, *others = run(packed, args, emulator, tmp_path, 10)
    assert all(np.array_equal(first.view(np.uint8), other.view(np.uint8)) for other in others)
    report = ExactnessReport()
    check_call(packed, 0, (*args, first), "here", report)
    assert (report.calls, report.near_ties) == (1, 0)


def test_a_wrong_code_is_found(emulator: EmulatedNpu, tmp_path: Path) -> None:
    """The arithmetic that calls are compared with leaves no room."""
    packed, given = case("gelu_codes", 17, 19, 23)
    args = arguments(packed, given)
    (got,) = run(packed, args, emulator, tmp_path, 1)
    got = got.copy()
    got[3, 4] ^= 1
    with pytest.raises(BitExactError, match=r"kernel k: element \(3, 4\)"):
        check_call(packed, 0, (*args, got), "here", ExactnessReport())


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_codes_after_gelu_are_at_most_one_from_the_other_statement(shape: tuple[int, int, int]) -> None:
    """16 bits before the table cost less than half a code of 8; how many differ is the price of having no floats."""
    packed, given = case("gelu_codes", *shape)
    ours = execute(packed.program.kernels["k"], given)
    theirs = packed.expected("k", arguments(packed, given))
    distance = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int))
    assert distance.max() <= 1 and distance.mean() < 0.1


def test_sources_of_a_blob_lie_beside_it(tmp_path: Path, emulator: EmulatedNpu) -> None:
    packed, given = case("linear", 2, 3, 5)
    run(packed, arguments(packed, given), emulator, tmp_path, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"k.mlir", "k.tosa", "k.vgf"}


def test_the_emulator_says_what_is_wrong_and_goes_on(emulator: EmulatedNpu, tmp_path: Path) -> None:
    packed, given = case("linear", 2, 3, 5)
    args = arguments(packed, given)
    (first,) = run(packed, args, emulator, tmp_path, 1)
    with pytest.raises(RuntimeFailure, match=r"expected \d+ bytes of inputs, got"):
        emulator.run(emulator.loaded - 1, [*args, args[0]])
    with pytest.raises(RuntimeFailure, match="IndexError"):
        emulator.run(999, args)
    (again,) = run(packed, args, emulator, tmp_path, 1)
    assert np.array_equal(first, again)
