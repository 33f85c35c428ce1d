"""Graphs whose tensors are called what the flow itself calls its own: the numbers do not change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper
from support.execution import imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import model, node

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.check.names import require_names_apart
from tvm_flow.errors import BitExactError
from tvm_flow.graph.names import quoted

Array = np.ndarray[Any, Any]
ROLES = ("x", "w", "ws", "wz", "s", "z", "b", "q", "dx", "dw", "p", "p2", "v", "y")
PLAIN = dict(zip(ROLES, ROLES, strict=True))
X = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


def quantized(names: dict[str, str]) -> ModelProto:
    """Two products of uint8 weights, one transposed before it is dequantized, and an addition at the end."""
    rng = np.random.default_rng(1)
    n = names
    constants: dict[str, Array] = {
        n["w"]: rng.integers(0, 256, (8, 32)).astype(np.uint8),
        n["ws"]: np.full(32, 0.01, np.float32),
        n["wz"]: np.full(32, 131, np.uint8),
        n["v"]: rng.integers(0, 256, (32, 8)).astype(np.uint8),
        n["s"]: np.float32(0.02),
        n["z"]: np.uint8(120),
        n["b"]: rng.standard_normal(32).astype(np.float32),
    }

    def step(kind: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(kind, [n[i] for i in inputs.split()], [n[output]], **attributes)

    nodes = [
        step("QuantizeLinear", "x s z", "q"),
        step("DequantizeLinear", "q s z", "dx"),
        step("DequantizeLinear", "w ws wz", "dw", axis=1),
        step("MatMul", "dx dw", "p"),
        step("Add", "p b", "p2"),
        step("Mul", "p2 p2", "y"),
    ]
    return model(nodes, {n["x"]: X.shape}, {n["y"]: (4, 32)}, constants)


def run(names: dict[str, str]) -> tuple[PackedProgram, Array]:
    packed = lowered(imported(quantized(names)))
    require_names_apart(packed)
    return packed, run_checked(packed, {quoted(names["x"]): X}).output


@pytest.fixture(scope="module")
def plain() -> tuple[PackedProgram, Array]:
    return run(PLAIN)


def test_the_plain_names_give_what_onnxruntime_gives(plain: tuple[PackedProgram, Array]) -> None:
    want = onnxruntime_outputs(quantized(PLAIN), {"x": X})[0]
    np.testing.assert_allclose(plain[1], want, rtol=1e-5, atol=1e-5)


def hostile(packed: PackedProgram) -> list[str]:
    """Every name that the flow gave, with and without its mark, and the variables of its own functions."""
    program = packed.program
    own = {*program.tensors, *packed.constants, *program.graph.constants, *program.kernels}
    bare = {name.lstrip("%") for name in own}
    return sorted(own | bare | {"p0", "p1", "lv", "lv1", "lv2", "gv", "kernel", "main", "packed", "w.s8", "w.T", "C"})


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_names_do_not_change_the_numbers(plain: tuple[PackedProgram, Array], data: st.DataObject) -> None:
    packed, want = plain
    chosen = data.draw(
        st.lists(st.sampled_from(hostile(packed)), min_size=len(ROLES), max_size=len(ROLES), unique=True)
    )
    _, got = run(dict(zip(ROLES, chosen, strict=True)))
    np.testing.assert_array_equal(got, want)


def test_two_constants_of_one_derived_name_stay_two() -> None:
    """`a.T`, made signed, and `a`, transposed and made signed, would both be called a.T.s8."""
    rng = np.random.default_rng(2)
    constants = {
        "a": rng.integers(0, 256, (8, 8)).astype(np.uint8),
        "a.T": rng.integers(0, 256, (8, 8)).astype(np.uint8),
        **{"s": np.float32(0.02), "z": np.uint8(128)},
    }
    nodes = [
        *(node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")),
        *(node("Transpose", "a", "t"), node("DequantizeLinear", "t s z", "dt"), node("MatMul", "d dt", "p")),
        *(node("DequantizeLinear", "a.T s z", "du"), node("MatMul", "d du", "r"), node("Sub", "p r", "y")),
    ]
    made = model(nodes, {"x": X.shape}, {"y": (4, 8)}, constants)
    got = run_checked(lowered(imported(made)), {"x": X}).output
    np.testing.assert_allclose(got, onnxruntime_outputs(made, {"x": X})[0], rtol=1e-5, atol=1e-4)


def test_a_program_that_writes_a_name_twice_is_not_checked_by_names() -> None:
    packed = lowered(imported(quantized(PLAIN)))
    program = packed.program
    for wrong in ("x", "b", program.calls[0].output):
        calls = (*program.calls[:-1], replace(program.calls[-1], output=wrong))
        with pytest.raises(BitExactError, match="expected a new name"):
            require_names_apart(replace(packed, program=replace(program, calls=calls)))
    calls = tuple(reversed(program.calls))
    with pytest.raises(BitExactError, match="written before it is read"):
        require_names_apart(replace(packed, program=replace(program, calls=calls)))
