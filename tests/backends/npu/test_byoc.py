"""Patterns, composites, regions and refusals, shown by the template of a vendor, which is run so that it works."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.npu_template import TEMPLATE, run
from support.npu_template.operators import MOST_COLUMNS
from support.relax_kernels import f32, function_of
from tvm.relax import op as R
from tvm.relax.backend.pattern_registry import get_patterns_with_prefix

from tvm_flow.backends.npu.byoc import region_of
from tvm_flow.backends.npu.vendor import Lowered
from tvm_flow.backends.packed import Refusal
from tvm_flow.numerics.reference import execute

RAGGED = [(1, 1, 1), (2, 3, 5), (17, 19, 23), (7, 128, MOST_COLUMNS)]


def product(emit: Any, x: Any, w: Any, scale: float = 2.0**-8, after: Callable[..., Any] | None = None) -> Any:
    sums = emit(R.astype(emit(R.matmul(x, w, out_dtype="int32")), "float32"))
    codes = emit(R.round(emit(R.multiply(sums, f32(scale)))))
    result = emit(R.astype(emit(R.clip(codes, -128, 127)), "int8"))
    return after(emit, result) if after else result


def kernel(m: int, k: int, n: int, **words: Any) -> Any:
    return function_of(lambda emit, x, w: product(emit, x, w, **words), ((m, k), "int8"), ((k, n), "int8"))


@pytest.mark.parametrize("shape", RAGGED)
def test_a_kernel_within_the_limits_is_one_region_that_the_device_runs_by_its_own_rounding(
    shape: tuple[int, int, int],
) -> None:
    (m, k, n), rng = shape, np.random.default_rng(0)
    region = region_of(TEMPLATE, kernel(m, k, n))
    assert isinstance(region, Lowered) and region.text == "PRODUCT a0 a1 -> y SHIFT 8"
    x, w = rng.integers(-128, 128, (m, k), dtype=np.int8), rng.integers(-128, 128, (k, n), dtype=np.int8)
    inputs = [x, TEMPLATE.weights.pack(w)]
    results = [run(region.text, inputs) for _ in range(10)]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert np.array_equal(results[0], TEMPLATE.arithmetic[region.arithmetic](inputs))
    assert np.array_equal(TEMPLATE.weights.unpack(inputs[1], w.shape), w)
    ours = np.asarray(execute(kernel(m, k, n), [x, w])).astype(int)
    assert np.abs(ours - results[0]).max() <= 1, "its ties go up and ours to even"


def exponential(emit: Any, codes: Any) -> Any:
    return emit(R.exp(emit(R.astype(codes, "float32"))))


@pytest.mark.parametrize(
    ("function", "reason", "remedy"),
    [
        (kernel(2, 3, MOST_COLUMNS + 1), r"astype of int32 \[2, 65\]: at most 64 columns", "split the layer"),
        (kernel(2, 3, 5, scale=2.0**-7), "has no such operator", "add it to the operators"),
        (kernel(2, 3, 5, after=exponential), r"exp of float32 \[2, 5\]: no tables in this device", "leave the kernel"),
    ],
)
def test_a_refusal_names_operator_types_shapes_rule_and_remedy(function: Any, reason: str, remedy: str) -> None:
    answer = region_of(TEMPLATE, function)
    assert isinstance(answer, Refusal)
    assert re.search(reason, answer.reason) and remedy in answer.remedy


def test_its_patterns_are_in_relax_s_registry() -> None:
    region_of(TEMPLATE, kernel(2, 3, 5))
    assert [pattern.name for pattern in get_patterns_with_prefix("npu_template.")] == ["npu_template.product"]


def test_a_name_that_begins_another_is_not_mistaken_for_it() -> None:
    """`npu_template` has no patterns of a vendor `npu_template_two`, which TVM finds by the beginning of names."""
    region_of(TEMPLATE, kernel(2, 3, 5))
    assert not get_patterns_with_prefix("npu_temp.")
