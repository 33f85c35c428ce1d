"""Every TIR construct that is printed, run on the driver, against what LLVM makes of the same function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.execution import HOST, call_kernel
from support.vulkan_runner import LAVAPIPE, LEAST, run_shader
from tvm import IRModule, te, tirx, topi

from tvm_flow.backends.vulkan.shader import CannotTranslate, shader_of_tir
from tvm_flow.lower.exponential import exp_expression
from tvm_flow.lower.extremes import larger, smaller
from tvm_flow.target.features import llvm_target, names_for

Array = np.ndarray[Any, Any]
Body = Callable[..., Any]


def f32(value: float) -> Any:
    return tirx.const(value, "float32")


def i32(value: int) -> Any:
    return tirx.const(value, "int32")


FLOATS: dict[str, Body] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "not_contracted": lambda a, b: a * b + a,
    "constants": lambda a, b: (a * f32(0.1) - f32(-3.5)) * b,
    "maximum": lambda a, b: tirx.max(a, b),
    "minimum": lambda a, b: tirx.min(a, b),
    "larger_or_nan": larger,
    "smaller_or_nan": smaller,
    "select": lambda a, b: tirx.Select(tirx.all(a < b, a > f32(0.0)), a, b),
    "comparisons": lambda a, b: tirx.Select(tirx.any(a <= b, tirx.Not(a >= f32(0.5)), tirx.NE(a, b)), a, -b),
    "either": lambda a, b: tirx.if_then_else(a < b, a * f32(3.0), b + f32(1.0)),
    "nested_either": lambda a, b: tirx.if_then_else(a < b, tirx.if_then_else(a < f32(0.0), a, b), a + b),
    "square_root": lambda a, b: tirx.sqrt(a * a + b * b),
    "exponential": lambda a, b: exp_expression(a) + exp_expression(b * f32(20.0)),
    "nearest": lambda a, b: tirx.nearbyint(a * f32(4.0)) + tirx.nearbyint(b),
    "floor": lambda a, b: tirx.floor(a * f32(5.0)) - tirx.ceil(b * f32(5.0)) + tirx.trunc(a * f32(7.0)),
    "magnitude": lambda a, b: tirx.abs(a) - tirx.abs(b),
    "reinterpret": lambda a, b: tirx.reinterpret("float32", tirx.reinterpret("int32", a) ^ i32(1)) + b,
    "through_int32": lambda a, b: (a * f32(1000.0)).astype("int32").astype("float32") + b,
}
INTEGERS: dict[str, Body] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "maximum": lambda a, b: tirx.max(a, b),
    "minimum": lambda a, b: tirx.min(a, b),
    "select": lambda a, b: tirx.Select(a < b, a, b),
    "widened": lambda a, b: (a.astype("int32") * b.astype("int32") + i32(-7)).astype(a.dtype),
    "through_float": lambda a, b: (a.astype("float32") * f32(0.25)).astype(a.dtype) + b,
}
WORDS: dict[str, Body] = {
    "floor_division": lambda a, b: tirx.floordiv(a, tirx.max(b, i32(1))),
    "floor_remainder": lambda a, b: tirx.floormod(a, tirx.max(b, i32(1))),
    "division": lambda a, b: tirx.truncdiv(a, tirx.max(b, i32(1))),
    "remainder": lambda a, b: tirx.truncmod(a, tirx.max(b, i32(1))),
    "shifts": lambda a, b: (a << i32(3)) + (b >> i32(5)),
    "bits": lambda a, b: (a & b) | (a ^ i32(0x55)),
}
TYPES = ("int8", "uint8", "int16", "int32")


def elementwise(body: Body, length: int, dtype: str) -> Any:
    a, b = (te.placeholder((length,), dtype, name) for name in "ab")
    return te.create_prim_func([a, b, te.compute((length,), lambda i: body(a[i], b[i]), "out")])


def values(length: int, dtype: str, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return (rng.standard_normal(length) * 10.0 ** rng.integers(-3, 3, length)).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    found = rng.integers(low, high, length, dtype, endpoint=True)
    found[: min(2, length)] = (low, high)[: min(2, length)]
    return found


def assert_same(cases: dict[str, tuple[Any, list[Array]]], device: Any = LAVAPIPE) -> None:
    """Bit for bit what LLVM makes for a CPU without fused operations, into which it would contract others."""
    functions = {name: f.with_attr("global_symbol", name) for name, (f, _) in cases.items()}
    plain = llvm_target(HOST.triple, names_for(HOST.triple).plain_cpu)
    module = tirx.build(IRModule(functions), target=plain)
    for name, (function, inputs) in cases.items():
        output = function.params[-1]
        shape, dtype = tuple(int(e) for e in output.shape), str(output.dtype)
        expected = call_kernel(module, name, inputs, shape, dtype)
        got, _ = run_shader(shader_of_tir(name, function, device), inputs, shape)
        np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8), name)


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("name", FLOATS)
def test_float_expressions(name: str) -> None:
    """Rounded as LLVM's code rounds, so that nothing is contracted, and division and roots are exact."""
    inputs = [values(1000, "float32", 1), values(1000, "float32", 2)]
    assert_same({name: (elementwise(FLOATS[name], 1000, "float32"), inputs)})


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", INTEGERS)
def test_integer_expressions(name: str, dtype: str) -> None:
    """Wrapped to their type."""
    inputs = [values(257, dtype, 1), values(257, dtype, 2)]
    if name == "through_float":
        inputs = [array // array.dtype.type(5) for array in inputs]
    assert_same({f"{name}_{dtype}": (elementwise(INTEGERS[name], 257, dtype), inputs)})


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("length", [1, 2, 3, 4, 7])
def test_words_of_short_outputs(length: int) -> None:
    """Whatever the length, the words of the output alone are written."""
    inputs = [values(length, "int8", 1), values(length, "int8", 2)]
    assert_same({f"short_{length}": (elementwise(INTEGERS["add"], length, "int8"), inputs)})


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("name", WORDS)
def test_word_expressions(name: str) -> None:
    inputs = [values(500, "int32", 1), values(500, "int32", 2)]
    assert_same({name: (elementwise(WORDS[name], 500, "int32"), inputs)})


@pytest.mark.usefixtures("driver")
def test_casts_to_codes_saturate_where_the_graph_clips() -> None:
    def body(a: Any, b: Any) -> Any:
        return tirx.max(tirx.min(tirx.nearbyint(a / b), f32(127.0)), f32(-128.0)).astype("int8")

    inputs = [values(999, "float32", 1), np.abs(values(999, "float32", 2)) + np.float32(0.01)]
    assert_same({"codes": (elementwise(body, 999, "float32"), inputs)})


@pytest.mark.usefixtures("driver")
def test_ties_go_to_even() -> None:
    a = np.arange(-20, 20, dtype=np.float32) / 2
    assert_same({"ties": (elementwise(lambda a, b: tirx.nearbyint(a) + b, 40, "float32"), [a, np.zeros_like(a)])})


def moved() -> dict[str, Any]:
    """Functions of one float32 [3, 5, 8] that move elements."""
    x = te.placeholder((3, 5, 8), "float32", "x")
    results = {
        "transposed": topi.transpose(x, (2, 0, 1)),
        "reshaped": topi.reshape(x, (15, 8)),
        "padded": topi.nn.pad(x, (0, 1, 1), (0, 1, 1)),
        "joined": topi.concatenate([topi.strided_slice(x, [0, 0, 4], [3, 5, 8]), x], 2),
        "sliced": topi.strided_slice(x, [0, 1, 1], [3, 5, 8], [1, 2, 3]),
        "broadcast": topi.broadcast_to(topi.reshape(x, (3, 5, 1, 8)), (3, 5, 2, 8)),
    }
    return {name: te.create_prim_func([x, result]) for name, result in results.items()}


@pytest.mark.usefixtures("driver")
def test_moves_read_nothing_outside_of_their_input() -> None:
    """Padding and concatenation choose which side they evaluate."""
    x = values(120, "float32", 5).reshape(3, 5, 8)
    assert_same({name: (function, [x]) for name, function in moved().items()})


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_narrow_tensors_are_moved_by_whole_words(dtype: str) -> None:
    x = te.placeholder((3, 5, 7), dtype, "x")
    function = te.create_prim_func([x, topi.transpose(x, (1, 2, 0))])
    assert_same({"narrow": (function, [values(105, dtype, 3).reshape(3, 5, 7)])})


@pytest.mark.usefixtures("driver")
def test_a_device_with_nothing_but_the_least_gives_the_same() -> None:
    inputs = [values(100, "float32", 1), values(100, "float32", 2)]
    names = ("divide", "square_root", "exponential", "not_contracted")
    assert_same({name: (elementwise(FLOATS[name], 100, "float32"), inputs) for name in names}, LEAST)


@pytest.mark.usefixtures("driver")
def test_more_workgroups_than_one_axis_holds() -> None:
    function = elementwise(lambda a, b: a + b, 65536 * 64 + 5, "float32")
    assert shader_of_tir("many", function, LAVAPIPE).grid[1] == 2
    size = 65536 * 64 + 5
    assert_same({"many": (function, [np.arange(size, dtype=np.float32), np.ones(size, np.float32)])})


@pytest.mark.parametrize(
    ("body", "dtype", "words"),
    [
        (lambda a, b: tirx.tanh(a) + b, "float32", "tanh"),
        (lambda a, b: tirx.log(a) + b, "float32", "log"),
        (lambda a, b: a + b, "float64", "float64"),
        (lambda a, b: a + b, "float16", "float16"),
        (lambda a, b: a + b, "int64", "int64"),
        (lambda a, b: (a.astype("float16") + b.astype("float16")).astype("float32"), "float32", "float16"),
        (lambda a, b: tirx.popcount(a) + b, "int32", "popcount"),
    ],
)
def test_what_cannot_be_printed_is_named(body: Body, dtype: str, words: str) -> None:
    with pytest.raises(CannotTranslate, match=f"kernel k: .*{words}"):
        shader_of_tir("k", elementwise(body, 8, dtype), LAVAPIPE)
