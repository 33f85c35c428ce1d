"""Schedules of everything but integer products: right on awkward shapes, and still in vectors on the usual ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.execution import call_kernel, compare, compile_functions
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu.choices import RowsChoice
from tvm_flow.backends.cpu.rows import PARALLEL_ELEMENTS, row_default, schedule_rows
from tvm_flow.check.kernels import assembly
from tvm_flow.lower.legalize import to_prim_func
from tvm_flow.numerics.reference import execute
from tvm_flow.target.spec import load_target

Body = Callable[..., Any]
SHAPES: list[tuple[int, ...]] = [
    *((), (1,), (7,), (16,), (1, 1), (1, 16), (5, 1), (3, 13), (4, 48), (2, 3, 20)),
    *((3, 1, 17), (1, 5, 24), (2, 3, 4, 6), (2, 1, 3, 31), (1, 2, 3, 2, 8), (6, 2), (5, 3), (4, 22)),
]


def function(body: Body, *shapes: tuple[int, ...], dtype: str = "float32") -> Any:
    """``body(emit, *tensors)`` as a Relax function."""
    block = relax.BlockBuilder()
    params = [relax.Var(f"p{i}", relax.TensorType(list(shape), dtype)) for i, shape in enumerate(shapes)]
    with block.function("main", params):
        with block.dataflow():
            output = block.emit_output(body(block.emit, *params))
        block.emit_func_output(output)
    return block.get()["main"]


def check_all(cases: dict[str, tuple[Any, list[np.ndarray]]]) -> None:
    """Compile every case in one module, then compare each with the reference."""
    scheduled = {
        name: schedule_rows(to_prim_func(f, name)).with_attr("global_symbol", name) for name, (f, _) in cases.items()
    }
    module = compile_functions(scheduled)
    for name, (f, inputs) in cases.items():
        out = f.body.body.ty
        got = call_kernel(module, name, inputs, tuple(int(e) for e in out.shape), str(out.dtype))
        compare(execute(f, inputs), got, name)


def label(kind: str, shape: tuple[int, ...]) -> str:
    return "_".join([kind, *(str(extent) for extent in shape)])


def values(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), np.float32)


# elementwise and moves


def affine(emit: Any, x: Any, y: Any) -> Any:
    return emit(R.add(emit(R.multiply(x, y)), relax.const(0.5, "float32")))


def test_elementwise_on_every_shape() -> None:
    check_all({label("affine", s): (function(affine, s, s), [values(s), values(s, 1)]) for s in SHAPES})


def test_vectors_broadcast_along_rows() -> None:
    shapes = [s for s in SHAPES if s]
    check_all({label("row", s): (function(affine, s, s[-1:]), [values(s), values(s[-1:], 1)]) for s in shapes})


def to_codes(emit: Any, x: Any) -> Any:
    scaled = emit(R.round(emit(R.divide(x, relax.const(0.25, "float32")))))
    return emit(R.astype(emit(R.clip(scaled, -128, 127)), "int8"))


def test_quantize_rounds_ties_to_even_and_saturates() -> None:
    x = (np.arange(-600, 600, dtype=np.float32) / 8).reshape(-1, 24)
    f = function(to_codes, x.shape)
    module = compile_functions({"codes": schedule_rows(to_prim_func(f, "codes"))})
    got = call_kernel(module, "codes", [x], x.shape, "int8")
    np.testing.assert_array_equal(got, np.clip(np.rint(x * 4), -128, 127))


def test_concat_and_slices() -> None:
    def swapped(emit: Any, x: Any) -> Any:
        half = 4
        low, high = (emit(R.strided_slice(x, [2], [a], [b])) for a, b in ((0, half), (half, 2 * half)))
        return emit(R.multiply(emit(R.concat([high, low], axis=2)), x))

    shape = (3, 5, 8)
    check_all({"swapped": (function(swapped, shape), [values(shape)])})


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
def test_transpose(axes: tuple[int, ...]) -> None:
    shape = (3, 5, 16)
    check_all({"moved": (function(lambda emit, x: emit(R.permute_dims(x, axes)), shape), [values(shape)])})


# rows


def softmax(emit: Any, x: Any) -> Any:
    exponential = emit(R.exp(emit(R.subtract(x, emit(R.max(x, axis=-1, keepdims=True))))))
    return emit(R.divide(exponential, emit(R.sum(exponential, axis=-1, keepdims=True))))


def norm(emit: Any, x: Any) -> Any:
    length = relax.const(float(int(x.ty.shape[-1])), "float32")
    mean = emit(R.divide(emit(R.sum(x, axis=-1, keepdims=True)), length))
    centred = emit(R.subtract(x, mean))
    square = emit(R.sum(emit(R.multiply(centred, centred)), axis=-1, keepdims=True))
    root = emit(R.sqrt(emit(R.add(emit(R.divide(square, length)), relax.const(1e-6, "float32")))))
    return emit(R.multiply(centred, emit(R.divide(relax.const(1.0, "float32"), root))))


def norm_to_codes(emit: Any, x: Any) -> Any:
    return to_codes(emit, norm(emit, x))


def norm_then_moved(emit: Any, x: Any) -> Any:
    return emit(R.reshape(norm(emit, x), [-1]))


@pytest.mark.parametrize("body", [softmax, norm, norm_to_codes])
def test_row_reductions_on_every_shape(body: Body) -> None:
    name = body.__name__
    check_all({label(name, s): (function(body, s), [values(s)]) for s in SHAPES if s})


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_sum_is_the_output(shape: tuple[int, ...], keepdims: bool) -> None:
    def body(emit: Any, x: Any) -> Any:
        return emit(R.sum(emit(R.multiply(x, x)), axis=-1, keepdims=keepdims))

    def variance(emit: Any, x: Any) -> Any:
        return emit(R.sum(softmax(emit, x), axis=-1, keepdims=keepdims))

    check_all({"total": (function(body, shape), [values(shape)]), "two": (function(variance, shape), [values(shape)])})


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (1, 2), (0, 2), (0, 1, 2), None])
def test_sum_over_any_axes(axes: tuple[int, ...] | None) -> None:
    def body(emit: Any, x: Any) -> Any:
        return emit(R.sum(x, axis=list(axes) if axes else None, keepdims=True))

    def centred(emit: Any, x: Any) -> Any:
        return emit(R.subtract(x, body(emit, x)))

    shape = (3, 4, 16)
    check_all({"total": (function(body, shape), [values(shape)]), "rest": (function(centred, shape), [values(shape)])})


def test_integer_row_sums_join_an_accumulator() -> None:
    """acc - zero * rows, the correction for a weight's zero point."""

    def body(emit: Any, x: Any, zero: Any) -> Any:
        rows = emit(R.sum(x, axis=-1, keepdims=True))
        return emit(R.subtract(x, emit(R.multiply(rows, zero))))

    cases = {}
    for shape in [s for s in SHAPES if s]:
        rng = np.random.default_rng(0)
        inputs = [rng.integers(-128, 128, s).astype(np.int32) for s in (shape, shape[-1:])]
        cases[label("rows", shape)] = (function(body, shape, shape[-1:], dtype="int32"), inputs)
    check_all(cases)


def test_max_of_negative_rows() -> None:
    x = -np.abs(values((5, 33))) - 10
    check_all({"peak": (function(lambda emit, a: emit(R.max(a, axis=-1, keepdims=True)), x.shape), [x])})


# float products


@pytest.mark.parametrize(
    ("left", "right"),
    [
        *(((5, 7), (7, 3)), ((1, 8), (8, 16)), ((4, 16), (16, 1)), ((3, 1), (1, 24)), ((6,), (6, 8)), ((2, 6), (6,))),
        *(((2, 5, 7), (2, 7, 11)), ((2, 3, 4, 8), (2, 3, 8, 4)), ((2, 5, 7), (7, 16)), ((6,), (6,))),
    ],
)
def test_float_product(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    f = function(lambda emit, a, b: emit(R.matmul(a, b)), left, right)
    check_all({"product": (f, [values(left), values(right, 1)])})


# what the schedule does


def test_large_kernels_run_in_parallel_and_small_ones_do_not() -> None:
    for rows, parallel in ((PARALLEL_ELEMENTS // 64, True), (PARALLEL_ELEMENTS // 64 - 1, False)):
        for body in (softmax, lambda emit, x: affine(emit, x, x)):
            text = str(schedule_rows(to_prim_func(function(body, (rows, 64)), "k")))
            assert ("T.parallel" in text) == parallel


@pytest.mark.parametrize("body", [softmax, norm, norm_to_codes])
@pytest.mark.parametrize("shape", [(64, 96), (8, 16, 64), (2, 4, 8, 16)])
def test_usual_rows_are_computed_in_vectors(body: Body, shape: tuple[int, ...]) -> None:
    text = str(schedule_rows(to_prim_func(function(body, shape), "k")))
    assert text.count("T.vectorized") >= 2, "the sums and the output both"


@pytest.mark.parametrize("body", [to_codes, norm_to_codes])
@pytest.mark.parametrize(("target", "rounded"), [("x86-64-v3", r"vroundps\t\$\d+, %ymm"), ("armv8-a", r"frinti?n?\tv")])
def test_codes_are_rounded_in_vectors(body: Body, target: str, rounded: str) -> None:
    """A rounding that is taken apart takes apart the loads and stores around it. Of four rows, LLVM puts the roots
    together in one vector, which has instructions that loads have when they are taken apart."""
    lowered = to_prim_func(function(body, (64, 96)), "k")
    one, usual = (
        assembly("k", schedule_rows(lowered, choice), load_target(target)) for choice in (RowsChoice(16, False), None)
    )
    assert re.search(rounded, one) and not re.search(r"vpextrb|vinsertps|st1\t\{v\d+\.b\}", one)
    assert re.search(rounded, usual) and not re.search(r"vpextrb|st1\t\{v\d+\.b\}", usual)


def test_short_rows_are_summed_four_at_a_time_and_long_ones_one_after_the_other() -> None:
    """No bit changes by it: each row's sum is added up as before."""
    rows = {(128, 96): 4, (2, 16, 256): 4, (16, 33): 4, (16, 257): 0, (4096, 1152): 0, (4, 6, 96): 0, (8, 1, 96): 0}
    for shape, together in rows.items():
        lowered = to_prim_func(function(norm_to_codes, shape), "k")
        default = row_default(lowered)
        assert isinstance(default, RowsChoice) and default.rows == together, shape
        assert str(schedule_rows(lowered)) == str(schedule_rows(lowered, default))
    lowered = to_prim_func(function(norm_to_codes, (128, 96)), "k")
    one = schedule_rows(lowered, RowsChoice(16, False)).with_attr("global_symbol", "one")
    module = compile_functions({"k": schedule_rows(lowered), "one": one})
    four, single = (call_kernel(module, name, [values((128, 96))], (128, 96), "int8") for name in ("k", "one"))
    assert str(schedule_rows(lowered)) != str(one) and np.array_equal(four, single)


def test_vectors_end_where_a_head_ends() -> None:
    """72 channels of a head are 9 vectors of 8, and no vector of 16 is gathered from two heads."""

    def joined(emit: Any, x: Any) -> Any:
        return to_codes(emit, emit(R.reshape(emit(R.permute_dims(x, (1, 0, 2))), [16, 144])))

    f = function(joined, (2, 16, 72))
    text = str(schedule_rows(to_prim_func(f, "k")))
    assert "T.vectorized(T.int64(8))" in text and "T.vectorized(T.int64(16))" not in text
    check_all({"joined": (f, [values((2, 16, 72))])})


def test_parallel_rows_are_right() -> None:
    shape = (PARALLEL_ELEMENTS // 32 + 1, 48)
    check_all({f.__name__: (function(f, shape), [values(shape)]) for f in (softmax, norm)})
