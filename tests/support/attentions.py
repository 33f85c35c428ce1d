"""Attention as a step graph has it, and something to read for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax
from tvm.relax import op as R

from support.relax_kernels import function_of


def attention(batch: int, heads: int, m: int, d: int, s: int, masked: bool) -> Any:
    shapes = {"q": (batch, heads, m, d), "k": (batch, heads, d, s), "v": (batch, heads, s, d)}
    if masked:
        shapes["mask"] = (s,)
    p = {name: relax.Var(name, relax.TensorType(list(shape), "float32")) for name, shape in shapes.items()}
    block = relax.BlockBuilder()
    with block.function("main", list(p.values())):
        with block.dataflow():
            output = block.emit_output(softmax_product(block.emit, *p.values()))
        block.emit_func_output(output)
    return block.get()["main"]


def operands(function: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(len(function.params))
    made = [np.asarray(rng.standard_normal([int(e) for e in p.ty.shape]), np.float32) for p in function.params]
    if len(made) == 4:
        made[3] = np.where(np.arange(len(made[3])) <= len(made[3]) // 2, 0.0, -1e9).astype(np.float32)
    return made


def in_place(frames: int, places: int, heads: int, d: int, temporal: bool) -> Any:
    """Attention within frames, or across them, of a product's q, k and v [tokens, 3 heads d], as codes of tokens."""
    tokens, width = frames * places, heads * d
    first, last = ((1, 2, 0, 3), (2, 0, 1, 3)) if temporal else ((0, 2, 1, 3), (0, 2, 1, 3))

    def build(emit: Any, qkv: Any, head_scale: Any, scale: Any) -> Any:
        def part(i: int) -> Any:
            cut = emit(R.strided_slice(qkv, [1], [i * width], [(i + 1) * width], [1]))
            return emit(R.permute_dims(emit(R.reshape(cut, [frames, places, heads, d])), first))

        q, k, v = (part(i) for i in range(3))
        mixed = softmax_product(emit, emit(R.multiply(q, head_scale)), emit(R.permute_dims(k, (0, 1, 3, 2))), v)
        return codes(emit, emit(R.reshape(emit(R.permute_dims(mixed, last)), [tokens, width])), scale)

    return function_of(build, ((tokens, 3 * width), "float32"), ((), "float32"), ((), "float32"))


def normed_in_place(frames: int, places: int, heads: int, d: int, temporal: bool) -> Any:
    """`in_place` of q and k that are normed over a head's channels, and rotated where they are of frames."""
    tokens, width = frames * places, heads * d
    first, last = ((1, 2, 0, 3), (2, 0, 1, 3)) if temporal else ((0, 2, 1, 3), (0, 2, 1, 3))

    def build(emit: Any, qkv: Any, eps: Any, gains: Any, cos: Any, sin: Any, scale: Any) -> Any:
        def part(i: int) -> Any:
            cut = emit(R.strided_slice(qkv, [1], [i * width], [(i + 1) * width], [1]))
            return emit(R.permute_dims(emit(R.reshape(cut, [frames, places, heads, d])), first))

        def normed(x: Any) -> Any:
            total = emit(R.sum(emit(R.multiply(x, x)), axis=[-1], keepdims=True))
            root = emit(R.sqrt(emit(R.add(emit(R.divide(total, relax.const(float(d), "float32"))), eps))))
            x = emit(R.multiply(emit(R.divide(x, root)), gains))
            if not temporal:
                return x
            halves = [emit(R.strided_slice(x, [3], [start], [start + d // 2], [1])) for start in (d // 2, 0)]
            turned = emit(R.concat(halves, axis=-1))
            return emit(R.add(emit(R.multiply(x, cos)), emit(R.multiply(turned, sin))))

        k = emit(R.permute_dims(normed(part(1)), (0, 1, 3, 2)))
        mixed = softmax_product(emit, normed(part(0)), k, part(2))
        return codes(emit, emit(R.reshape(emit(R.permute_dims(mixed, last)), [tokens, width])), scale)

    shapes = [(tokens, 3 * width), (), (d,), (frames, d), (frames, d), ()]
    return function_of(build, *((shape, "float32") for shape in shapes))


def to_caption(tokens: int, keys: int, heads: int, d: int) -> Any:
    """Attention of q [tokens, heads d] to k and v [keys, 2 heads d] of a caption with a mask, as codes of tokens."""
    width = heads * d

    def build(emit: Any, q: Any, kv: Any, mask: Any, gain: Any, scale: Any) -> Any:
        def part(i: int) -> Any:
            return emit(
                R.reshape(emit(R.strided_slice(kv, [1], [i * width], [(i + 1) * width], [1])), [keys, heads, d])
            )

        rows = emit(R.permute_dims(emit(R.reshape(q, [tokens, heads, d])), (1, 0, 2)))
        k, v = emit(R.permute_dims(part(0), (1, 2, 0))), emit(R.permute_dims(part(1), (1, 0, 2)))
        mixed = emit(R.permute_dims(softmax_product(emit, rows, k, v, mask), (1, 0, 2)))
        return codes(emit, emit(R.multiply(emit(R.reshape(mixed, [tokens, width])), gain)), scale)

    shapes = [(tokens, width), (keys, 2 * width), (keys,), (width,), ()]
    return function_of(build, *((shape, "float32") for shape in shapes))


def softmax_product(emit: Any, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
    scores = emit(R.matmul(q, k))
    if mask is not None:
        scores = emit(R.add(scores, mask))
    power = emit(R.exp(emit(R.subtract(scores, emit(R.max(scores, axis=[-1], keepdims=True))))))
    return emit(R.matmul(emit(R.divide(power, emit(R.sum(power, axis=[-1], keepdims=True)))), v))


def codes(emit: Any, x: Any, scale: Any) -> Any:
    return emit(R.astype(emit(R.clip(emit(R.round(emit(R.divide(x, scale)))), -128, 127)), "int8"))


def code_operands(function: Any, zero: int = -128, unit: float = 1.0) -> list[np.ndarray]:
    """For `code_attention`: drawn, scores of some units, 255 parts of 1."""
    rng = np.random.default_rng(len(function.params))
    q, k, v = (np.asarray(rng.standard_normal([int(e) for e in p.ty.shape]), np.float32) for p in function.params[:3])
    step = np.float32(3 / 127)
    numbers = [step, step, step, step * step * 4 / q.shape[-1] ** 0.5, 255 * unit, unit]
    scalars = [np.asarray(number, np.float32) for number in numbers]
    summed = np.clip(np.rint(v / scalars[2]), -128, 127).astype(np.int32).sum(axis=-2, keepdims=True, dtype=np.int32)
    mask = np.where(np.arange(v.shape[-2]) <= v.shape[-2] // 2, 0.0, -1e9).astype(np.float32)
    last = {"mask": mask, "correction": summed * np.int32(zero)}
    more = [last[p.name] for p in function.params[11:]]
    return [q, k, v, *scalars, np.asarray(zero, np.int8), scalars[2], *more]
