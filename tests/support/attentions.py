"""Attention as a step graph has it, and something to read for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op as R


def attention(batch: int, heads: int, m: int, d: int, s: int, masked: bool) -> Any:
    shapes = {"q": (batch, heads, m, d), "k": (batch, heads, d, s), "v": (batch, heads, s, d)}
    if masked:
        shapes["mask"] = (s,)
    p = {name: relax.Var(name, relax.TensorType(list(shape), "float32")) for name, shape in shapes.items()}
    block = relax.BlockBuilder()
    emit = block.emit
    with block.function("main", list(p.values())):
        with block.dataflow():
            scores = emit(R.matmul(p["q"], p["k"]))
            if masked:
                scores = emit(R.add(scores, p["mask"]))
            top = emit(R.max(scores, axis=[-1], keepdims=True))
            power = emit(R.exp(emit(R.subtract(scores, top))))
            weights = emit(R.divide(power, emit(R.sum(power, axis=[-1], keepdims=True))))
            output = block.emit_output(emit(R.matmul(weights, p["v"])))
        block.emit_func_output(output)
    return block.get()["main"]


def operands(function: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(len(function.params))
    made = [np.asarray(rng.standard_normal([int(e) for e in p.ty.shape]), np.float32) for p in function.params]
    if len(made) == 4:
        made[3] = np.where(np.arange(len(made[3])) <= len(made[3]) // 2, 0.0, -1e9).astype(np.float32)
    return made
