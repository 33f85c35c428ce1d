"""exp: its error over all of float32 that matters stays below what it promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from support.execution import compile_functions
from tvm import relax, te
from tvm.relax import op as R

from tvm_flow.backends.cpu.rows import schedule_rows
from tvm_flow.lower.exponential import (
    ABSOLUTE_ERROR,
    LOWER,
    RELATIVE_ERROR,
    UPPER,
    falling_expression,
    weight_expression,
)
from tvm_flow.lower.legalize import to_prim_func
from tvm_flow.target.spec import load_target

Array = np.ndarray[Any, Any]
BLOCK = 1 << 16
LARGEST = float(np.finfo(np.float32).max)


def exp_function() -> Any:
    """exp of `BLOCK` numbers, scheduled as kernels are."""
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([BLOCK], "float32"))
    with block.function("main", [x]):
        with block.dataflow():
            output = block.emit_output(block.emit(R.exp(x)))
        block.emit_func_output(output)
    return schedule_rows(to_prim_func(block.get()["main"], "e")).with_attr("global_symbol", "e")


def weight_function(expression: Callable[[Any], Any] = weight_expression) -> Any:
    """The exponential of weights, of `BLOCK` numbers."""
    x = te.placeholder((BLOCK,), "float32", "x")
    y = te.compute(x.shape, lambda i: expression(x[i]), name="y")
    return schedule_rows(te.create_prim_func([x, y])).with_attr("global_symbol", "e")


def runner(function: Any) -> Any:
    module = compile_functions({"e": function})

    def run(values: Array) -> Array:
        padded = np.zeros(-(-values.size // BLOCK) * BLOCK, np.float32)
        padded[: values.size] = values
        parts = []
        for part in padded.reshape(-1, BLOCK):
            out = tvm.runtime.tensor(np.empty(BLOCK, np.float32))
            module["e"](tvm.runtime.tensor(part), out)
            parts.append(out.numpy())
        return np.concatenate(parts)[: values.size]

    return run


@pytest.fixture(scope="module")
def kernel() -> Any:
    """exp of `BLOCK` numbers, as kernels compute it."""
    return runner(exp_function())


@pytest.fixture(scope="module")
def weights() -> Any:
    """exp of numbers of at most 0, as attention computes its weights."""
    return runner(weight_function())


def assert_promised(x: Array, got: Array) -> float:
    """Returns the largest relative error where the result is not tiny."""
    with np.errstate(over="ignore", invalid="ignore"):
        exact = np.exp(x.astype(np.float64))
        allowed = RELATIVE_ERROR * exact + ABSOLUTE_ERROR
        # Between the two ends a result may round to infinity or not.
        assert np.all(np.isinf(got[exact - allowed > LARGEST])) and np.all(np.isfinite(got[exact + allowed < LARGEST]))
        finite = np.isfinite(got)
        x, got, exact, allowed = x[finite], got[finite], exact[finite], allowed[finite]
        distance = np.abs(got.astype(np.float64) - exact)
    worst = np.argmax(distance / allowed)
    assert np.all(distance <= allowed), f"exp({x[worst]}) = {got[worst]}, exactly {exact[worst]}"
    normal = exact > 1e-30
    return float((distance[normal] / exact[normal]).max(initial=0.0))


def test_dense_sweep(kernel: Any) -> None:
    """Two million points between the ends, evenly."""
    worst = 0.0
    for low in np.arange(-90.0, 89.0, 17.9):
        x = np.linspace(low, low + 17.9, 200_000).astype(np.float32)
        worst = max(worst, assert_promised(x, kernel(x)))
    assert worst > 0.25 * 2.0**-24, "a float32 result cannot be better than its own rounding"


def test_every_binade_of_both_signs(kernel: Any) -> None:
    """All exponents, 2 x 254 of them and the subnormals, 2048 evenly spaced mantissas each."""
    exponents = np.arange(0, 255, dtype=np.uint32)
    mantissas = np.arange(0, 1 << 23, 1 << 12, dtype=np.uint32)
    bits = (exponents[:, None] << 23 | mantissas).reshape(-1)
    for sign in (np.uint32(0), np.uint32(1 << 31)):
        x = (bits | sign).view(np.float32)
        assert_promised(x, kernel(x))


def test_around_every_multiple_of_half_ln2(kernel: Any) -> None:
    """Where the reduction changes its integer, the remainder is largest."""
    n = np.arange(-251, 254, dtype=np.float64)
    middle = (n * math.log(2) / 2).astype(np.float32)
    steps = np.arange(-200, 201, dtype=np.int32)
    x = (middle.view(np.int32)[:, None] + steps).astype(np.int32).view(np.float32).reshape(-1)
    x = x[np.isfinite(x) & (np.abs(x) < 90)]
    assert_promised(x, kernel(x))


def test_edges(kernel: Any) -> None:
    up, down = np.float32(np.inf), np.float32(-np.inf)
    edges = np.array([UPPER, LOWER], np.float32)
    x = np.array(
        [
            *edges,
            *np.nextafter(edges, up),
            *np.nextafter(edges, down),
            -1e9,
            -3e38,
            89,
            1e9,
            3e38,
            0,
            -0.0,
            1e-45,
            -1e-45,
        ],
        np.float32,
    )
    got = kernel(x)
    assert_promised(x, got)
    assert not np.isnan(got).any()
    assert np.all(kernel(np.array([-1e9, -3e38, -np.inf], np.float32)) == 0), "a masked score weighs nothing at all"
    assert np.all(kernel(np.array([0, -0.0, 1e-45, -1e-45], np.float32)) == 1)
    below = np.nextafter(np.float32(LOWER), down)
    assert kernel(np.array([below], np.float32))[0] == 0


def test_to_the_end_of_float32_and_beyond(kernel: Any) -> None:
    """Each of the float32 numbers around the largest argument of a finite result."""
    last = np.float32(math.log(LARGEST))
    x = (last.view(np.int32) + np.arange(-2000, 2000, dtype=np.int32)).view(np.float32)
    got = kernel(x)
    assert_promised(x, got)
    assert np.isfinite(got[:1990]).all() and np.isinf(got[2010:]).all() and got[1990] > 3.39e38
    assert kernel(np.array([88.7], np.float32))[0] == pytest.approx(math.exp(np.float32(88.7)), rel=3e-7)
    assert np.isinf(kernel(np.array([UPPER, 89, 1e9, np.inf], np.float32))).all()


def test_nan_stays_nan(kernel: Any) -> None:
    x = np.array([np.nan, 1, -np.nan, 2], np.float32)
    np.testing.assert_array_equal(np.isnan(kernel(x)), [True, False, True, False])


def test_no_result_is_subnormal(kernel: Any) -> None:
    """So a machine that flushes subnormals computes the same."""
    x = np.linspace(-90, -86, BLOCK).astype(np.float32)
    got = kernel(x)
    assert np.all((got == 0) | (got >= np.finfo(np.float32).tiny))


def test_never_decreases_by_more_than_its_error(kernel: Any) -> None:
    x = np.linspace(-20, 20, BLOCK).astype(np.float32)
    got = kernel(x).astype(np.float64)
    assert np.all(np.diff(got) >= -2 * RELATIVE_ERROR * got[1:])


@pytest.mark.parametrize(("target", "vector", "scalar"), [("x86-64-v3", "vroundps", "vroundss")])
def test_exp_of_what_is_read_from_memory_is_computed_in_vectors(target: str, vector: str, scalar: str) -> None:
    """A Select of it becomes a branch for each element: four times the time of a GELU."""
    assembly = tvm.tirx.build(tvm.IRModule({"e": exp_function()}), target=load_target(target).tvm()).inspect_source("s")
    assert vector in assembly and scalar not in assembly


def test_weights_keep_the_promise_of_exp(weights: Any) -> None:
    worst = 0.0
    for low in np.arange(-89.0, 0.0, 8.9):
        x = np.minimum(np.linspace(low, low + 8.9, 400_000), 0.0).astype(np.float32)
        worst = max(worst, assert_promised(x, weights(x)))
    assert 0.25 * 2.0**-24 < worst < 0.75 * RELATIVE_ERROR, worst
    tiny = -np.ldexp(1.0, np.arange(-149, 7)).astype(np.float32)
    assert_promised(tiny, weights(tiny))


def test_the_weight_of_the_largest_score_is_one_and_of_what_is_masked_nothing(weights: Any) -> None:
    got = weights(np.array([0.0, -0.0, -88.0, -1e9, -3.4e38, -np.inf, np.nan], np.float32))
    assert got[:6].tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0] and np.isnan(got[6])


def test_one_that_falls_has_the_same_bits(kernel: Any) -> None:
    """Down to where the other is zero, and this one nearly."""
    values = -np.abs(np.random.default_rng(5).standard_cauchy(1 << 20).astype(np.float32) * 3)
    values[:6] = (0.0, -0.0, -1e-45, LOWER, -LARGEST, -np.inf)
    values[6:1000] = np.float32(LOWER) + np.linspace(0, 1e-3, 994, dtype=np.float32)
    got, want = runner(weight_function(falling_expression))(values), kernel(values)
    there = want > 0
    assert np.array_equal(got[there], want[there]) and 1000 < np.count_nonzero(there) < values.size
    assert 0 < got[~there].max() <= 2.0**-125
