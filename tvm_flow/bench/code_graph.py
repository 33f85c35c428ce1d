"""Attention of codes as a step graph has it after its import, for the bench of attention and for tests.

q, k, v  --/ scale, round, clip-->  int8  --tvm_flow.backends.cpu.code_attention-->  float32
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm import relax
from tvm.relax import op as R

from tvm_flow.graph.types import Expr, Relax, Var

Emit = Callable[[Expr], Var]
Array = npt.NDArray[np.float32]
GREATEST = 255.0
"""The code of 1, less the zero."""


@dataclass(frozen=True)
class CodeParameters:
    """What `code_product` reads beside q, k and v; the correction is made where it is None."""

    score: Var
    factor: Var
    unit: Var
    zero: Var
    value: Var
    mask: Var | None = None
    correction: Var | None = None


def code_product(emit: Emit, operands: tuple[Var, Var, Var], rest: CodeParameters) -> Var:
    """What a step has of codes q [.., M, D], k transposed, v: both products, the softmax, the division."""
    q, k, v = operands
    scores = emit(R.multiply(emit(R.astype(emit(R.matmul(q, k, out_dtype="int32")), "float32")), rest.score))
    if rest.mask is not None:
        scores = emit(R.add(scores, rest.mask))
    power = emit(R.exp(emit(R.subtract(scores, emit(R.max(scores, axis=[-1], keepdims=True))))))
    zero = emit(R.astype(rest.zero, "float32"))
    shares = emit(R.divide(emit(R.multiply(power, rest.factor)), rest.unit))
    weights = emit(R.astype(emit(R.clip(emit(R.add(emit(R.round(shares)), zero)), -128, 127)), "int8"))
    less = emit(R.subtract(emit(R.astype(weights, "float32")), zero))
    total = emit(R.sum(emit(R.multiply(less, rest.unit)), axis=[-1], keepdims=True))
    correction = rest.correction
    if correction is None:
        summed = emit(R.sum(emit(R.astype(v, "int32")), axis=[-2], keepdims=True))
        correction = emit(R.multiply(summed, emit(R.astype(rest.zero, "int32"))))
    sums = emit(R.subtract(emit(R.matmul(weights, v, out_dtype="int32")), correction))
    return emit(R.divide(emit(R.multiply(emit(R.astype(sums, "float32")), rest.value)), total))


def code_attention(batch: int, heads: int, m: int, d: int, s: int, more: Collection[str] = ()) -> Relax:
    """Of q, k transposed and v in float32, three scales, and `CodeParameters` in their order; float32 again.

    ``more`` are mask and correction, where they are parameters, too.
    """
    shapes = {"q": (m, d), "k": (d, s), "v": (s, d)}
    p = {n: relax.Var(n, relax.TensorType([batch, heads, *shape], "float32")) for n, shape in shapes.items()}
    for name in ("q_scale", "k_scale", "v_scale", "score", "factor", "unit", "zero", "value"):
        p[name] = relax.Var(name, relax.TensorType([], "int8" if name == "zero" else "float32"))
    numbers = list(p.values())[6:]
    last = {"mask": ([s], "float32"), "correction": ([batch, heads, 1, d], "int32")}
    extra = {name: relax.Var(name, relax.TensorType(*last[name])) for name in last if name in more}
    rest = CodeParameters(*numbers, **extra)
    q, k, v, q_scale, k_scale, v_scale, *_ = p.values()
    p |= extra
    block = relax.BlockBuilder()
    with block.function("main", list(p.values())):
        with block.dataflow():
            operands = (_codes(block.emit, q, q_scale), _codes(block.emit, k, k_scale), _codes(block.emit, v, v_scale))
            output = block.emit_output(code_product(block.emit, operands, rest))
        block.emit_func_output(output)
    return block.get()["main"]


def _codes(emit: Emit, x: Var, scale: Var) -> Var:
    return emit(R.astype(emit(R.clip(emit(R.round(emit(R.divide(x, scale)))), -128, 127)), "int8"))


def parameters_of(q: Array, k: Array, v: Array) -> list[npt.NDArray[np.generic]]:
    """What `code_attention` takes after ``q``, ``k`` and ``v``: the least scales, weights of 0 to 255."""
    scales = [np.float32(np.abs(x).max() / 127) for x in (q, k, v)]
    numbers = [*scales, scales[0] * scales[1], GREATEST, 1.0]
    return [*(np.asarray(number, np.float32) for number in numbers), np.asarray(-128, np.int8), np.asarray(scales[2])]
