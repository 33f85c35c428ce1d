"""The step graph of an STDiT3: everything that depends on time is a constant in it.

Inputs   z     float32 [C, T, H, W]   the latent
         y     float32 [L, D]         caption tokens, padded
         mask  float32 [L]            0 for a token, `MASKED` for padding
Output   velocity  float32 [C, T, H, W], or the noise; [2 * C, T, H, W] for a sampler that needs the variance, the
                   second half of the final layer, which is not computed otherwise

Tokens are rows: x is [T * S, hidden]. LayerNormalization carries the folded modulation as its scale and bias. Rope
turns neighbouring pairs; here the channels of every head of q and k are reordered to (even, odd), which leaves q k^T
as it is and turns the pair swap into a swap of halves.
"""

from __future__ import annotations

import numpy as np
import onnx

from tvm_flow.errors import ExportError
from tvm_flow.export.linear import float_linear, linear
from tvm_flow.export.writer import GraphWriter, WeightFile
from tvm_flow.model.layers import NORM_EPS
from tvm_flow.quantize.quantized import QuantizedModel

MASKED = -1e9
"""Added to the score of a padded token: its softmax weight is then exactly zero in single precision."""


def step_graph(model: QuantizedModel, step: int, branch: int, weights: WeightFile) -> onnx.ModelProto:
    """The graph of one step and branch; raises ExportError when the latent does not divide into patches."""
    return _StepGraph(model, step, branch, GraphWriter(weights)).build()


class _StepGraph:
    def __init__(self, model: QuantizedModel, step: int, branch: int, g: GraphWriter) -> None:
        self.model, self.step, self.branch, self.g = model, step, branch, g
        self.channels, *size = model.latent
        patch = model.config.patch
        if any(extent % p for extent, p in zip(size, patch, strict=True)):
            raise ExportError(f"latent {model.latent}: expected multiples of the patch {patch}; choose another size")
        self.frames, self.height, self.width = (extent // p for extent, p in zip(size, patch, strict=True))
        self.places = self.height * self.width
        self.tokens = self.frames * self.places
        self.hidden, self.heads, self.head_dim = model.config.hidden, model.config.heads, model.config.head_dim
        self.caption = model.config.model_max_length

    def build(self) -> onnx.ModelProto:
        inputs = {
            "z": self.model.latent,
            "y": (self.caption, self.model.config.caption_channels),
            "mask": (self.caption,),
        }
        y = self.caption_tokens()
        x = self.patch_tokens()
        for index in range(self.model.config.depth):
            for kind in ("spatial", "temporal"):
                x = self.block(x, y, f"{kind}_blocks.{index}", temporal=kind == "temporal")
        return self.g.model(inputs, self.final(x), (self.model.output_channels, *self.model.latent[1:]), "velocity")

    def patch_tokens(self) -> str:
        """x_embedder as a product of flattened patches, plus positions: [T * S, hidden]."""
        g, (kt, kh, kw) = self.g, self.model.config.patch
        x = g.reshape("z", self.channels, self.frames, kt, self.height, kh, self.width, kw)
        x = g.reshape(g.transpose(x, 1, 3, 5, 0, 2, 4, 6), self.tokens, self.channels * kt * kh * kw)
        weight = self.model.params["x_embedder.proj.weight"]
        x = float_linear(
            g, x, "x_embedder.proj", weight.reshape(self.hidden, -1), self.model.params["x_embedder.proj.bias"]
        )
        positions = g.shared("position_embedding", self.model.position_embedding)
        x = g.op("Add", [g.reshape(x, self.frames, self.places, self.hidden), positions])
        return g.reshape(x, self.tokens, self.hidden)

    def caption_tokens(self) -> str:
        """y_embedder: [L, hidden]."""
        g, params, prefix = self.g, self.model.params, "y_embedder.y_proj"
        y = float_linear(g, "y", f"{prefix}.fc1", params[f"{prefix}.fc1.weight"], params[f"{prefix}.fc1.bias"])
        y = g.op("Gelu", [y], approximate="tanh")
        return float_linear(g, y, f"{prefix}.fc2", params[f"{prefix}.fc2.weight"], params[f"{prefix}.fc2.bias"])

    def block(self, x: str, y: str, name: str, temporal: bool) -> str:
        g = self.g
        update = self.self_attention(self.modulated(x, f"{name}.msa"), name, temporal)
        x = g.op("Add", [x, g.op("Mul", [update, self.fold(f"{name}.msa_gate")])])
        x = g.op("Add", [x, self.cross_attention(x, y, name)])
        wide = g.op("Gelu", [self.linear(self.modulated(x, f"{name}.mlp"), f"{name}.mlp.fc1")], approximate="tanh")
        update = self.linear(wide, f"{name}.mlp.fc2")
        return g.op("Add", [x, g.op("Mul", [update, self.fold(f"{name}.mlp_gate")])])

    def self_attention(self, x: str, name: str, temporal: bool) -> str:
        order = self.rope_order() if temporal else None
        qkv = self.linear(x, f"{name}.attn.qkv", order)
        q, k, v = (self.g.slice_last(qkv, i * self.hidden, (i + 1) * self.hidden) for i in range(3))
        places = (1, 2, 0, 3) if temporal else (0, 2, 1, 3)
        q, k, v = (
            self.g.transpose(self.g.reshape(t, self.frames, self.places, self.heads, self.head_dim), *places)
            for t in (q, k, v)
        )
        q = self.head_norm(q, f"{name}.attn.q_norm", temporal, self.head_dim**-0.5)
        k = self.head_norm(k, f"{name}.attn.k_norm", temporal, 1.0)
        mixed = self.attend(q, self.g.transpose(k, 0, 1, 3, 2), v)
        back = (2, 0, 1, 3) if temporal else (0, 2, 1, 3)
        mixed = self.g.reshape(self.g.transpose(mixed, *back), self.tokens, self.hidden)
        return self.linear(mixed, f"{name}.attn.proj")

    def cross_attention(self, x: str, y: str, name: str) -> str:
        g = self.g
        q = self.linear(x, f"{name}.cross_attn.q_linear")
        q = g.op("Mul", [q, g.shared("head_scale", np.array(self.head_dim**-0.5, np.float32))])
        kv = self.linear(y, f"{name}.cross_attn.kv_linear")
        k, v = (g.slice_last(kv, i * self.hidden, (i + 1) * self.hidden) for i in range(2))
        q = g.transpose(g.reshape(q, self.tokens, self.heads, self.head_dim), 1, 0, 2)
        k = g.transpose(g.reshape(k, self.caption, self.heads, self.head_dim), 1, 2, 0)
        v = g.transpose(g.reshape(v, self.caption, self.heads, self.head_dim), 1, 0, 2)
        mixed = g.reshape(g.transpose(self.attend(q, k, v, "mask"), 1, 0, 2), self.tokens, self.hidden)
        return self.linear(mixed, f"{name}.cross_attn.proj")

    def attend(self, q: str, k_transposed: str, v: str, mask: str | None = None) -> str:
        scores = self.g.op("MatMul", [q, k_transposed])
        if mask is not None:
            scores = self.g.op("Add", [scores, mask])
        return self.g.op("MatMul", [self.g.op("Softmax", [scores], axis=-1), v])

    def head_norm(self, x: str, name: str, temporal: bool, scale: float) -> str:
        """RMS norm over the head, times ``scale``; rope on temporal blocks, x [S, heads, T, head_dim] there."""
        g, half = self.g, self.head_dim // 2
        order = self.pair_order() if temporal else np.arange(self.head_dim)
        gain = (self.model.params[f"{name}.weight"][order] * np.float32(scale)).astype(np.float32)
        mean = g.op("ReduceMean", [g.op("Mul", [x, x]), g.integers(-1)], keepdims=1)
        root = g.op("Sqrt", [g.op("Add", [mean, g.shared("rms_eps", np.array(NORM_EPS, np.float32))])])
        x = g.op("Mul", [g.op("Div", [x, root]), g.shared(f"{name}.weight", gain)])
        if not temporal:
            return x
        swapped = g.op("Concat", [g.slice_last(x, half, self.head_dim), g.slice_last(x, 0, half)], axis=-1)
        sign = np.repeat(np.array([-1.0, 1.0], np.float32), half)
        cos = g.shared("rope.cos", np.ascontiguousarray(self.model.rope_cos[:, order]))
        sin = g.shared("rope.sin", self.model.rope_sin[:, order] * sign)
        return g.op("Add", [g.op("Mul", [x, cos]), g.op("Mul", [swapped, sin])])

    def final(self, x: str) -> str:
        """Modulate, project to those channels of every patch that the sampler needs, put patches together."""
        g, (kt, kh, kw) = self.g, self.model.config.patch
        out = self.model.config.out_channels
        channels = self.model.output_channels
        kept = np.arange(kt * kh * kw * out).reshape(-1, out)[:, :channels].reshape(-1)
        params = self.model.params
        x = self.modulated(x, "final", separator=".")
        x = float_linear(
            g,
            x,
            "final_layer.linear",
            params["final_layer.linear.weight"][kept],
            params["final_layer.linear.bias"][kept],
        )
        x = g.reshape(x, self.frames, self.height, self.width, kt, kh, kw, channels)
        return g.reshape(g.transpose(x, 6, 0, 3, 1, 4, 2, 5), channels, *self.model.latent[1:])

    def modulated(self, x: str, name: str, separator: str = "_") -> str:
        vectors = [self.fold(f"{name}{separator}{part}") for part in ("scale", "shift")]
        return self.g.op("LayerNormalization", [x, *vectors], axis=-1, epsilon=NORM_EPS)

    def fold(self, name: str) -> str:
        return self.g.own(name, self.model.evaluate(name, self.step))

    def linear(self, x: str, name: str, order: np.ndarray | None = None) -> str:
        return linear(self.g, x, name, self.model.layers[name], self.step, self.branch, order)

    def pair_order(self) -> np.ndarray:
        """Even channels of a head, then odd ones."""
        return np.concatenate([np.arange(0, self.head_dim, 2), np.arange(1, self.head_dim, 2)])

    def rope_order(self) -> np.ndarray:
        """Output channels of qkv with the heads of q and k in `pair_order`."""
        channels = np.arange(3 * self.hidden).reshape(3, self.heads, self.head_dim)
        channels[:2] = channels[:2][:, :, self.pair_order()]
        return channels.reshape(-1)
