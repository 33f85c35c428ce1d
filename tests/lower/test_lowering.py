"""Step graphs down to machine code: every kernel compared with its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from support.execution import (
    HOST,
    PackedProgram,
    call_kernel,
    compile_functions,
    imported,
    lowered,
    onnxruntime_outputs,
    run_checked,
)
from support.exported_model import MODELS, Exporter, feeds
from support.onnx_graphs import model, node
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu import choose_isa, generic, x86
from tvm_flow.backends.cpu.codegen import compile_object, scheduled_kernels
from tvm_flow.backends.cpu.generic import GENERIC
from tvm_flow.backends.cpu.packing import as_product
from tvm_flow.backends.place import pack_weights
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Derived, evaluate
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.legalize import to_prim_func
from tvm_flow.lower.partition import partition

RECIPES = ("symmetric", "asymmetric", "mixed", "float")


@pytest.fixture(scope="module")
def packed(exporter: Exporter) -> dict[str, PackedProgram]:
    return {name: lowered(import_graph(exporter(name).graphs[0][0])) for name in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_kernel_of_a_step_graph(exporter: Exporter, packed: dict[str, PackedProgram], recipe: str) -> None:
    """Accumulators bit for bit, codes but for ties, floats within their bounds; then the velocity itself."""
    latent = MODELS["STDiT3"].latent
    inputs, module = feeds(latent, 3), compile_functions(scheduled_kernels(packed[recipe]))
    assert np.isfinite(run_checked(packed[recipe], feeds(latent, 3, length=1), module).output).all(), (
        "nearly all of it padding"
    )
    seen = run_checked(packed[recipe], inputs, module)
    assert seen.calls == len(packed[recipe].program.calls) and seen.near_ties <= 3
    want = onnxruntime_outputs(str(exporter(recipe).graphs[0][0]), inputs)[0]
    assert np.sqrt(np.mean((seen.output - want) ** 2)) < 2e-3 * np.sqrt(np.mean(want**2))


def test_step_graphs_need_no_slow_schedule(packed: dict[str, PackedProgram], monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and softmaxes of a model are computed row by row, in vectors; the plain order is for odd graphs."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a kernel fell back to the plain order")

    monkeypatch.setattr("tvm_flow.backends.cpu.rows._in_order", refuse)
    for program in packed.values():
        scheduled_kernels(program)


# packing


@pytest.mark.parametrize("recipe", ["symmetric", "asymmetric"])
def test_every_integer_product_reads_packed_weights(packed: dict[str, PackedProgram], recipe: str) -> None:
    program = packed[recipe]
    isa = choose_isa(HOST.features)
    products = [call for call in program.program.calls if call.kernel in program.products]
    assert len(products) == 14
    for call in products:
        product = program.products[call.kernel]
        assert product.isa is (isa if isa.fits(product.m, product.k, product.n) else isa.fallback or GENERIC)
        constant, weight = program.constants[call.args[1]], program.program.tensors[call.args[1]]
        assert isinstance(constant, Derived) and constant.rule == "pack_columns"
        assert weight.shape == product.packed_shape() and weight.dtype == "int8"


def test_packing_keeps_the_weights(packed: dict[str, PackedProgram]) -> None:
    program = packed["symmetric"]
    given = program.program.graph.given
    for call in program.program.calls:
        if call.kernel in program.products:
            constant = program.constants[call.args[1]]
            assert isinstance(constant, Derived)
            plain = evaluate(constant.sources[0], given)
            np.testing.assert_array_equal(program.products[call.kernel].unpack(evaluate(constant, given)), plain)


def test_constants_that_nothing_reads_are_not_stored(packed: dict[str, PackedProgram]) -> None:
    for program in packed.values():
        read = {name for call in program.program.calls for name in call.args}
        assert set(program.constants) <= read
        assert read <= {*program.constants, *program.program.graph.inputs, *(c.output for c in program.program.calls)}


def product_function(k: int, x: str = "int8", w: str = "int8", lead: tuple[int, ...] = (), swap: bool = False) -> Any:
    block = relax.BlockBuilder()
    left = relax.Var("x", relax.TensorType([*lead, 4, k], x))
    right = relax.Var("w", relax.TensorType([k, 32], w))
    with block.function("main", [right, left] if swap else [left, right]):
        with block.dataflow():
            output = block.emit_output(block.emit(R.matmul(left, right, out_dtype="int32" if x == "int8" else x)))
        block.emit_func_output(output)
    return block.get()["main"]


def test_depth_that_no_pair_divides_falls_back() -> None:
    even, odd = (as_product(product_function(k), x86.AVX2) for k in (16, 15))
    assert even is not None and even.isa is x86.AVX2
    assert odd is not None and odd.isa is generic.GENERIC


@pytest.mark.parametrize(
    "function",
    [product_function(16, "float32", "float32"), product_function(16, lead=(2,)), product_function(16, swap=True)],
    ids=["float", "batched", "arguments in another order"],
)
def test_other_products_are_not_packed(function: Any) -> None:
    assert as_product(function, x86.AVX2) is None


def test_product_of_two_activations_is_not_packed() -> None:
    """Only a constant can be packed at build time."""
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    nodes = [
        node("QuantizeLinear", "x s", "q", output_dtype=3),
        node("DequantizeLinear", "q s", "d"),
        node("Transpose", "d", "t", perm=[1, 0]),
        node("MatMul", "d t", "y"),
    ]
    program = pack_weights(
        partition(imported(model(nodes, {"x": x.shape}, {"y": (4, 4)}, {"s": np.float32(1)}))), generic.GENERIC
    )
    assert not program.products
    np.testing.assert_array_equal(run_checked(program, {"x": x}).output, x @ x.T)


def test_odd_depth_runs_on_the_generic_kernel() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 15)).astype(np.float32), rng.integers(-127, 128, (15, 32)).astype(np.int8)
    nodes = [
        node("QuantizeLinear", "x s", "q", output_dtype=3),
        node("DequantizeLinear", "q s", "d"),
        node("DequantizeLinear", "w s", "dw"),
        node("MatMul", "d dw", "y"),
    ]
    program = lowered(imported(model(nodes, {"x": x.shape}, {"y": (5, 32)}, {"s": np.float32(0.125), "w": w})))
    assert [p.isa for p in program.products.values()] == [generic.GENERIC]
    codes = np.clip(np.rint(x * 8), -128, 127)
    np.testing.assert_array_equal(run_checked(program, {"x": x}).output, (codes @ w.astype(np.float64)) / 64)


# legalizing and code generation


def test_kernel_is_one_function_with_its_output_last() -> None:
    function = to_prim_func(product_function(16), "product")
    x = np.random.default_rng(0).integers(-128, 128, (4, 16)).astype(np.int8)
    w = np.random.default_rng(1).integers(-128, 128, (16, 32)).astype(np.int8)
    got = call_kernel(compile_functions({"product": function}), "product", [x, w], (4, 32), "int32")
    np.testing.assert_array_equal(got, x.astype(int) @ w.astype(int))
    assert function.attrs["global_symbol"] == "product"


def test_kernel_that_computes_nothing_is_refused() -> None:
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([4], "float32"))
    with block.function("main", [x]):
        with block.dataflow():
            output = block.emit_output(x)
        block.emit_func_output(output)
    with pytest.raises(BuildError, match="kernel empty: TVM could not lower it"):
        to_prim_func(block.get()["main"], "empty")


def test_object_file_has_one_symbol_per_kernel(packed: dict[str, PackedProgram], tmp_path: Path) -> None:
    functions = scheduled_kernels(packed["symmetric"])
    assert list(functions) == list(packed["symmetric"].program.kernels)
    few = dict(list(functions.items())[:3])
    compile_object(few, HOST.tvm(), tmp_path / "kernels.o")
    content = (tmp_path / "kernels.o").read_bytes()
    assert content.startswith(b"\x7fELF")
    assert all(f"__tvm_ffi_{name}".encode() in content for name in few)
    assert [p.name for p in tmp_path.iterdir()] == ["kernels.o"]


def test_compiling_again_gives_the_same_bytes(packed: dict[str, PackedProgram], tmp_path: Path) -> None:
    few = dict(list(scheduled_kernels(packed["symmetric"]).items())[:2])
    for name in ("a.o", "b.o"):
        (tmp_path / name[0]).mkdir()
        compile_object(few, HOST.tvm(), tmp_path / name[0] / "kernels.o")
    assert (tmp_path / "a" / "kernels.o").read_bytes() == (tmp_path / "b" / "kernels.o").read_bytes()


def test_kernel_that_cannot_be_scheduled_is_named(
    packed: dict[str, PackedProgram], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("no such loop")

    monkeypatch.setattr("tvm_flow.backends.cpu.codegen.schedule_rows", fail)
    with pytest.raises(BuildError, match=r"kernel k\d+_\w+: TVM could not schedule it: no such loop"):
        scheduled_kernels(packed["symmetric"])


def test_code_generation_failure_is_a_build_error(tmp_path: Path) -> None:
    functions = {"broken": to_prim_func(product_function(16), "broken")}
    target = tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "x86-64"})
    wrong = {"broken": functions["broken"].with_attr("target", "not a target")}
    with pytest.raises(BuildError, match=r"kernels\.o: TVM refused the kernels"):
        compile_object(wrong, target, tmp_path / "kernels.o")
    assert not list(tmp_path.iterdir())
