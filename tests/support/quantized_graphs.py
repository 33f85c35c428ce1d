"""Quantized graphs as other exporters write them: codes of uint8, and tensors called what the flow calls its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, helper

from support.onnx_graphs import FLOAT, INT32, UINT8, model, node

Array = np.ndarray[Any, Any]


def weights(k: int, n: int) -> Array:
    """Codes of a [k, n] matrix, the same at every call."""
    return np.random.default_rng(k * n).integers(-127, 128, (k, n)).astype(np.int8)


def mlp(names: tuple[str, str, str, str] = ("x", "w1", "h", "y")) -> ModelProto:
    """Two quantized layers with a Relu between; ``names`` of input, first weight, hidden value and output."""
    x, w, h, y = names
    constants: dict[str, Array] = {
        **{w: weights(16, 32), "w2": weights(32, 8)},
        **{"sx": np.float32(0.03), "zx": np.int8(3), "sw": np.full(32, 0.01, np.float32), "sv": np.float32(0.02)},
        **{"zw": np.zeros(32, np.int8), "z": np.int8(0), "sh": np.float32(0.05)},
        "b": np.linspace(-1, 1, 32).astype(np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", [x, "sx", "zx"], ["qx"], "quantize_x"),
        helper.make_node("DequantizeLinear", ["qx", "sx", "zx"], ["dx"], "dequantize_x"),
        helper.make_node("DequantizeLinear", [w, "sw", "zw"], ["dw"], "dequantize_w", axis=1),
        helper.make_node("MatMul", ["dx", "dw"], ["p"], "first"),
        helper.make_node("Add", ["p", "b"], ["pb"], "bias"),
        helper.make_node("Relu", ["pb"], [h], "relu"),
        *(node("QuantizeLinear", f"{h} sh z", "qh"), node("DequantizeLinear", "qh sh z", "dh")),
        *(node("DequantizeLinear", "w2 sv z", "dv"), helper.make_node("MatMul", ["dh", "dv"], [y], "second")),
    ]
    return model(nodes, {x: (4, 16)}, {y: (4, 8)}, constants)


def attention() -> ModelProto:
    """softmax(Q K^T) V of one head, Q, K and V quantized products of one input, and a float product left alone."""
    constants: dict[str, Array] = {"s": np.float32(0.03), "z": np.int8(0), "scale": np.float32(0.25)}
    nodes = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z", "d")]
    for part in "abc":
        constants[f"w{part}"] = weights(16, 16)
        nodes += [node("DequantizeLinear", f"w{part} s z", f"d{part}"), node("MatMul", f"d d{part}", part)]
    nodes += [
        *(
            node("Transpose", "b", "bt", perm=[0, 2, 1]),
            node("MatMul", "a bt", "scores"),
            node("Mul", "scores scale", "m"),
        ),
        *(node("Softmax", "m", "p", axis=-1), node("MatMul", "p c", "y")),
    ]
    return model(nodes, {"x": (1, 8, 16)}, {"y": (1, 8, 16)}, constants)


def uint8_codes() -> ModelProto:
    """Codes in, codes out, a second output of sums in float, and an input that is added in int32."""
    constants: dict[str, Array] = {
        **{"w": weights(16, 32), "s": np.float32(0.02), "zx": np.uint8(131), "zw": np.int8(0)},
        "so": np.float32(0.3),
    }
    nodes = [
        *(node("DequantizeLinear", "x s zx", "dx"), node("DequantizeLinear", "w s zw", "dw")),
        *(node("MatMul", "dx dw", "sums"), node("QuantizeLinear", "sums so zx", "codes")),
        *(node("Add", "n n", "twice"),),
    ]
    types = {"x": UINT8, "codes": UINT8, "sums": FLOAT, "n": INT32, "twice": INT32}
    outputs = {"codes": (4, 32), "sums": (4, 32), "twice": (3,)}
    return model(nodes, {"x": (4, 16), "n": (3,)}, outputs, constants, types)
