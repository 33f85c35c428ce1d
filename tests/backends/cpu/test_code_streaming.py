"""Attention of codes as one kernel: the bits of kernels apart, whatever multiplies, and what the reference allows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tvm
from support.attentions import code_operands
from support.execution import HOST, call_kernel, compare, compile_functions

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.cpu.around_attention import attention_runs
from tvm_flow.backends.cpu.code_attention import as_code_attention
from tvm_flow.backends.cpu.code_dots import PLAIN, VNNI, CodeDot, dot_of
from tvm_flow.backends.cpu.code_tiles import Columns, Part, fits
from tvm_flow.backends.cpu.codegen import code_kernel, float_kernel
from tvm_flow.backends.place import pack_weights
from tvm_flow.bench.code_graph import code_attention
from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import Program
from tvm_flow.lower.partition import partition_whole
from tvm_flow.numerics.reference import execute
from tvm_flow.target.spec import load_target

Array = np.ndarray[Any, Any]
HERE = {dot.name: dot for dot in (PLAIN, dot_of(HOST.features))}
DOTS = {**HERE, **{f"as_{dot.name}": replace(dot, name=f"as_{dot.name}", intrinsic="") for dot in (VNNI,)}}
"""That run here, and what the instructions of other machines mean."""
MASK, CORRECTION = ("mask",), ("correction",)
CASES = [
    *(((1, 2, 4, 24, 1), ()), ((2, 1, 13, 7, 9), MASK), ((1, 1, 8, 24, 48), ()), ((1, 2, 5, 10, 33), MASK)),
    *(((2, 2, 32, 8, 16), ()), ((1, 1, 4, 9, 21), CORRECTION)),
]
"""Batch, heads, M, D, S, what is a parameter beside: one key, odd channels and keys, primes, whole vectors, several
heads a task."""


def name_of(dot: CodeDot, shape: tuple[int, ...]) -> str:
    return "_".join(map(str, (dot.name, *shape)))


def program_of(function: Any) -> Program:
    """The kernels that a step with ``function`` alone has."""
    graph = LiftedGraph(tvm.IRModule({"main": function}), tuple(p.name for p in function.params), {}, {})
    return partition_whole(graph)


@pytest.fixture(scope="module")
def module() -> Any:
    """A kernel for each of `CASES` and each of `DOTS`."""
    kernels = {
        (name := name_of(dot, shape)): code_kernel(name, code_attention(*shape, more), dot)
        for dot in DOTS.values()
        for shape, more in CASES
    }
    return compile_functions(kernels)


@pytest.fixture(scope="module")
def apart() -> dict[tuple[int, ...], tuple[Program, Any]]:
    """The kernels that each of `CASES` is without it."""
    found = {}
    for shape, more in CASES:
        program = program_of(code_attention(*shape, more))
        found[shape] = (program, {name: float_kernel(name, f) for name, f in program.kernels.items()})
    return {shape: (program, compile_functions(kernels)) for shape, (program, kernels) in found.items()}


def run_apart(program: Program, module: Any, given: list[Array]) -> Array:
    tensors = dict(zip(program.graph.inputs, given, strict=True))
    for call in program.calls:
        spec, read = program.tensors[call.output], [tensors[name] for name in call.args]
        tensors[call.output] = call_kernel(module, call.kernel, read, spec.shape, spec.dtype)
    return tensors[program.output]


def all_of(module: Any, shape: tuple[int, ...], given: list[Array]) -> list[Array]:
    """What each of `DOTS` gives."""
    output = (*shape[:3], shape[3])
    return [call_kernel(module, name_of(dot, shape), given, output, "float32") for dot in DOTS.values()]


@pytest.mark.parametrize(("shape", "more"), CASES)
def test_it_gives_the_bits_of_kernels_apart(
    module: Any, apart: Any, shape: tuple[int, ...], more: tuple[str, ...]
) -> None:
    given = code_operands(function := code_attention(*shape, more))
    want = run_apart(*apart[shape], given)
    assert np.isfinite(want).all() and np.unique(want).size > want.size // 100
    compare(execute(function, given), want)
    for got in all_of(module, shape, given):
        assert np.array_equal(got, want)


@pytest.mark.parametrize(("zero", "unit"), [(-128, 0.5), (-100, 1.0), (0, 2.0)])
def test_any_zero_and_unit_of_the_weights(module: Any, apart: Any, zero: int, unit: float) -> None:
    """Beyond 127 they are cut, so that sums of them differ; a unit that is a power of two leaves sums exact."""
    shape, more = CASES[3]
    given = code_operands(code_attention(*shape, more), zero, unit)
    want = run_apart(*apart[shape], given)
    for got in all_of(module, shape, given):
        assert np.array_equal(got, want)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("where", [slice(0, 1), slice(32, 33), slice(0, 33)])
def test_what_is_not_finite_in_a_mask_is_the_same(module: Any, apart: Any, value: float, where: slice) -> None:
    shape, more = CASES[3]
    *given, mask = code_operands(code_attention(*shape, more))
    mask[where] = value
    want = run_apart(*apart[shape], [*given, mask])
    for got in all_of(module, shape, [*given, mask]):
        assert np.array_equal(got, want)


def test_the_ends_of_the_codes_overflow_nothing(module: Any, apart: Any) -> None:
    """-128 times -128 throughout: the greatest sums of pairs."""
    shape, more = CASES[2]
    given = code_operands(code_attention(*shape, more))
    given[:3] = [np.full_like(x, -9.0) for x in given[:3]]
    for got in all_of(module, shape, given):
        assert np.array_equal(got, run_apart(*apart[shape], given))


def test_no_more_than_a_few_rows_of_scores_exist() -> None:
    text = str(code_kernel("a", code_attention(1, 2, 512, 24, 300), dot_of(HOST.features)))
    sizes = [int(size) for size in re.findall(r"alloc_buffer\(\(T\.int64\((\d+)\)", text)]
    assert sizes and max(sizes) < 300 * 32 and sum(sizes) < 300 * 512 // 4


def test_seven_kernels_and_more_are_one() -> None:
    program = program_of(code_attention(1, 2, 8, 12, 16, MASK))
    (run,) = attention_runs(program, program.kernels)
    assert run == range(len(program.calls)) and len(program.calls) >= 7
    (call,) = pack_weights(program, choose_isa(HOST.features)).program.calls
    assert call.output == program.output


def test_scores_that_another_reads_stay_apart() -> None:
    program = program_of(code_attention(1, 2, 8, 12, 16))
    products = [c.output for c in program.calls if program.tensors[c.output].dtype == "int32"]
    assert attention_runs(replace(program, others=(products[0],)), set(program.kernels)) == []


def test_what_is_no_attention_of_codes_is_refused() -> None:
    function = program_of(code_attention(1, 1, 4, 8, 8)).kernels
    assert all(as_code_attention(each) is None for each in function.values())
    with pytest.raises(BuildError, match="expected an attention of codes"):
        code_kernel("a", next(iter(function.values())), PLAIN)


def test_keys_whose_sums_of_weights_round_or_that_do_not_fit_stay_apart() -> None:
    assert as_code_attention(code_attention(1, 1, 1, 2, (1 << 16) + 1)) is None
    wide = as_code_attention(code_attention(1, 1, 1, 72, 1 << 15))
    assert wide is not None and not fits(wide)


def test_columns_are_tiles_of_two_vectors_and_one_of_what_is_left() -> None:
    assert list(Columns(72, 1, 8, 2).parts) == [Part(0, 4, 2), Part(64, 1, 1)]
    assert list(Columns(5, 1, 8, 2).parts) == [Part(0, 1, 1)] and Columns(5, 1, 8, 2).padded == 8
    assert list(Columns(16, 1, 8, 2).parts) == [Part(0, 1, 2)]


TARGETS = {"x86-64-v3": "avx2", "x86-64-v4": "avx512bw", "raspberry-pi-5": "sdot", "raspberry-pi-4": "neon"}


@pytest.mark.parametrize("target", TARGETS)
def test_the_widest_instruction_of_a_target_is_taken(target: str) -> None:
    features = load_target(target).features
    assert dot_of(features).name == TARGETS[target] and dot_of(features | {"avx512vnni"}).name == {
        "x86-64-v4": "avx512vnni"
    }.get(target, TARGETS[target])
