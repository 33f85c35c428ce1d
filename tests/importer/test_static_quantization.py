"""Graphs that onnxruntime's own quantizer writes go through the same pass, code by code."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from support.execution import compile_functions, imported, lowered, onnxruntime_outputs, run_checked
from support.onnx_graphs import model, node

from tvm_flow.backends.cpu.codegen import scheduled_kernels
from tvm_flow.graph.lifted import LiftedGraph, bindings_of, dtype_of, op_name, shape_of

Array = np.ndarray[Any, Any]
SIZES = (12, 32, 24, 8)
BATCH = 6


def mlp() -> ModelProto:
    """Gemm + Gelu, MatMul with bias + Relu, Gemm with a transposed weight."""
    rng = np.random.default_rng(0)
    shapes = [(SIZES[0], SIZES[1]), (SIZES[1], SIZES[2]), (SIZES[3], SIZES[2])]
    weights = [rng.standard_normal(s).astype(np.float32) / np.float32(np.sqrt(s[0])) for s in shapes]
    biases = [rng.standard_normal(n).astype(np.float32) for n in SIZES[1:]]
    nodes = [
        node("Gemm", "x w0 b0", "h0"),
        node("Gelu", "h0", "a0", approximate="tanh"),
        node("MatMul", "a0 w1", "m1"),
        node("Add", "m1 b1", "h1"),
        node("Relu", "h1", "a1"),
        node("Gemm", "a1 w2 b2", "y", transB=1),
    ]
    constants = {f"{kind}{i}": v for kind, each in (("w", weights), ("b", biases)) for i, v in enumerate(each)}
    return model(nodes, {"x": (BATCH, SIZES[0])}, {"y": (BATCH, SIZES[3])}, constants, opset=20)


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """A few seeded batches."""

    def __init__(self) -> None:
        self.seeds = iter(range(4))

    def get_next(self) -> dict[str, Array] | None:
        seed = next(self.seeds, None)
        return None if seed is None else {"x": batch(seed)}


def batch(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((BATCH, SIZES[0])).astype(np.float32)


CASES = list(itertools.product(["QInt8", "QUInt8"], [False, True], [False, True]))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def quantized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelProto:
    kind, per_channel, symmetric = request.param
    folder: Path = tmp_path_factory.mktemp("static")
    onnx.save(mlp(), str(folder / "float.onnx"))
    quantize_static(
        str(folder / "float.onnx"),
        str(folder / "int8.onnx"),
        Batches(),
        quant_format=QuantFormat.QDQ,
        activation_type=getattr(QuantType, kind),
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    )
    return onnx.load(str(folder / "int8.onnx"))


@pytest.fixture(scope="module")
def graph(quantized: ModelProto) -> LiftedGraph:
    return imported(quantized)


def test_every_product_is_an_integer_one(graph: LiftedGraph) -> None:
    values = [value for _, value in bindings_of(graph.module["main"]) if op_name(value) == "relax.matmul"]
    assert len(values) == 3 and graph.left_in_float == ()
    for value in values:
        assert [dtype_of(a) for a in value.args] == ["int8", "int8"] and dtype_of(value) == "int32"


def test_no_float_copy_of_a_weight_survives(graph: LiftedGraph) -> None:
    main = graph.module["main"]
    weights = {(SIZES[0], SIZES[1]), (SIZES[1], SIZES[2]), (SIZES[2], SIZES[3]), (SIZES[3], SIZES[2])}
    values = [(v, e) for v, e in bindings_of(main) if op_name(e)]
    for tensor in (*main.params, *(v for v, _ in values)):
        assert dtype_of(tensor) != "float32" or shape_of(tensor) not in weights, tensor
    assert not {op_name(e) for _, e in values} & {"relax.quantize", "relax.dequantize"}
    # Products read codes, packed, and no kernel reads them unpacked.
    read = {name for call in lowered(graph).program.calls for name in call.args}
    assert sum(".pack_columns_" in name for name in read) == 3
    assert not {name.split(".pack_columns_")[0] for name in read if ".pack_columns_" in name} & read


def codes_of(made: ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """The codes that onnxruntime's products read, as int8, and the output last."""
    shown = onnx.ModelProto()
    shown.CopyFrom(made)
    maker = {n.output[0]: n for n in made.graph.node}
    products = [n for n in made.graph.node if n.op_type in ("MatMul", "Gemm")]
    quantizers = [maker[maker[n.input[0]].input[0]] for n in products]
    constants = {i.name: numpy_helper.to_array(i) for i in made.graph.initializer}
    for each in quantizers:
        kind = onnx.TensorProto.UINT8 if constants[each.input[2]].dtype == np.uint8 else onnx.TensorProto.INT8
        shown.graph.output.append(onnx.helper.make_tensor_value_info(each.output[0], kind, None))
    names = [each.output[0] for each in quantizers] + [made.graph.output[0].name]
    results = onnxruntime_outputs(shown, feeds, names)
    return [r if r.dtype != np.uint8 else (r.astype(np.int16) - 128).astype(np.int8) for r in results]


def test_codes_are_those_of_onnxruntime(quantized: ModelProto, graph: LiftedGraph) -> None:
    """One code at most, and only where the value before rounding is within float error of a tie.

    onnxruntime multiplies dequantized floats where we multiply integers. Both are within a relative error of
    (K + 6) u of the exact value, K the depth of the product, before gelu, which magnifies by less than 1.2; so codes
    of 8 bits, at most 2^8 steps, fall to different sides of a tie with a probability below 2^8 * 2 (K + 6) u * 1.2.
    """
    packed = lowered(graph)
    module = compile_functions(scheduled_kernels(packed))
    chance = 2**8 * 2 * (max(SIZES) + 6) * 2.0**-24 * 1.2
    differing = total = 0
    for seed in range(10, 14):
        feeds = {"x": batch(seed)}
        seen = run_checked(packed, feeds, module)
        ours = [seen.tensors[c.output] for c in packed.program.calls if seen.tensors[c.output].dtype == np.int8]
        *theirs, want = codes_of(quantized, feeds)
        assert len(ours) == len(theirs) == 3
        for mine, other in zip(ours, theirs, strict=True):
            distance = np.abs(mine.astype(int) - other.astype(int))
            assert distance.max() <= 1
            differing, total = differing + np.count_nonzero(distance), total + distance.size
        step = output_step(quantized)
        assert np.abs(seen.output - want).max() <= step * 1.001, "at most one code of the output"
        assert np.mean(seen.output != want) < 0.02
    assert differing <= max(3, 10 * chance * total), f"{differing} of {total}"


def output_step(made: ModelProto) -> float:
    """Scale of the codes that the graph's output is made of."""
    last = next(n for n in made.graph.node if n.output[0] == made.graph.output[0].name)
    constants = {i.name: numpy_helper.to_array(i) for i in made.graph.initializer}
    return float(constants[last.input[1]]) if last.op_type == "DequantizeLinear" else 1e-4
