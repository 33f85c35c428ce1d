"""Kernels written by hand, as Relax functions and as programs of one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax
from tvm.relax import op as R

from tvm_flow.graph.constants import Given
from tvm_flow.graph.lifted import LiftedGraph, dtype_of, shape_of, tensor_var
from tvm_flow.graph.program import KernelCall, Program, TensorSpec
from tvm_flow.importer.canonical import GELU_CUBIC, GELU_LINEAR

Array = npt.NDArray[Any]
Emit = Callable[[Any], Any]


def function_of(build: Callable[..., Any], *params: tuple[Sequence[int], str]) -> Any:
    """A kernel of parameters p0, p1, ...; ``build`` gets an emitter and them, and gives its result."""
    variables = [tensor_var(f"p{i}", shape, dtype) for i, (shape, dtype) in enumerate(params)]
    block = relax.BlockBuilder()
    with block.function("kernel", variables):
        with block.dataflow():
            output = block.emit_output(build(block.emit, *variables))
        block.emit_func_output(output)
    return block.get()["kernel"]


def like(build: Callable[..., Any], *arrays: Array) -> Any:
    """`function_of` parameters of the shapes and types of ``arrays``."""
    return function_of(build, *((array.shape, str(array.dtype)) for array in arrays))


def program_of(function: Any, constants: Mapping[int, Array]) -> Program:
    """One call of ``function``, whose parameters of these positions are constants."""
    names = [f"p{i}" for i in range(len(function.params))]
    inputs = tuple(name for i, name in enumerate(names) if i not in constants)
    given = {names[i]: array for i, array in constants.items()}
    graph = LiftedGraph(None, inputs, {name: Given(name) for name in given}, given)
    tensors = {n: TensorSpec(shape_of(p), dtype_of(p)) for n, p in zip(names, function.params, strict=True)}
    tensors["out"] = TensorSpec(shape_of(function.body.body), dtype_of(function.body.body))
    return Program(graph, {"k": function}, (KernelCall("k", tuple(names), "out"),), tensors, "out")


def f32(value: float) -> Any:
    return relax.const(np.float32(value), "float32")


def linear(emit: Emit, x: Any, w: Any, scale: Any, bias: Any) -> Any:
    """Sums of codes times a scale plus a bias, by channel."""
    sums = emit(R.astype(emit(R.matmul(x, w, out_dtype="int32")), "float32"))
    return emit(R.add(emit(R.multiply(sums, scale)), bias))


def gated(emit: Emit, x: Any, w: Any, scale: Any, bias: Any, gate: Any, residual: Any) -> Any:
    """`linear` times a gate, added to what was there."""
    return emit(R.add(residual, emit(R.multiply(linear(emit, x, w, scale, bias), gate))))


def gelu_codes(
    emit: Emit, x: Any, w: Any, scale: Any, bias: Any, gain: Any, step: Any, cubic: float = GELU_CUBIC
) -> Any:
    """`linear`, GELU, the gain of smoothing, and codes in units of ``step``, as the importer writes them."""
    h = linear(emit, x, w, scale, bias)
    square = emit(R.multiply(h, h))
    slope = emit(R.add(emit(R.multiply(square, f32(-cubic))), f32(-GELU_LINEAR)))
    negated = emit(R.minimum(emit(R.multiply(h, slope)), f32(88.0)))
    gelu = emit(R.divide(h, emit(R.add(emit(R.exp(negated)), f32(1.0)))))
    codes = emit(R.round(emit(R.divide(emit(R.multiply(gelu, gain)), step))))
    return emit(R.astype(emit(R.clip(codes, -128, 127)), "int8"))


def attention(emit: Emit, q: Any, k: Any, v: Any, *masks: Any) -> Any:
    """softmax(q k + masks) v; ``k`` lies transposed."""
    scores = emit(R.matmul(q, k))
    for mask in masks:
        scores = emit(R.add(scores, mask))
    peak = emit(R.max(scores, axis=[-1], keepdims=True))
    power = emit(R.exp(emit(R.subtract(scores, peak))))
    shares = emit(R.divide(power, emit(R.sum(power, axis=[-1], keepdims=True))))
    return emit(R.matmul(shares, v))
