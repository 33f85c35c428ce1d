"""The quantized model: int8 weights once, and what each step and branch needs beside them.

Names of blocks and layers are module paths of the float model: ``spatial_blocks.0``,
``blocks.0.attn_temp.qkv``. The second axis of a table [steps, 2] is the branch: 0 cond, 1 uncond.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tvm_flow.calibrate import layer_names
from tvm_flow.errors import QuantizeError
from tvm_flow.model import AnyConfig
from tvm_flow.numerics.quantize import LEAST_SCALE
from tvm_flow.quantize.recipe import Recipe
from tvm_flow.sampler import SamplerConfig

Floats = NDArray[np.float32]

TABLES = {
    "STDiT": ("position_embedding", "time_embedding"),
    "STDiT3": ("position_embedding", "rope_cos", "rope_sin"),
}
"""The tables of a quantized model, by its config's model_type."""


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One linear. Where it is quantized, with s = scale[step, branch] and z its zero point:

        xq = quantize(x * input_gain, s, z)
        y  = accumulate(xq, weight_q, z) * (s * weight_scale) + bias

    and where ``float_steps`` is True: y = (x * input_gain) @ weight_f.T + bias.

    ============  ================  =================================================================
    weight_q      int8 [N, K]       in -127..127; None when every step keeps the layer in float
    weight_scale  float32 [N]       None as weight_q
    bias          float32 [N]       or [steps, 2, N] where it is not the same at every step and branch
    input_gain    float32 [K]       1 / smoothing; None when there is none or it is folded before
    scale         float32 [steps, 2]
    zero_point    int8 [steps, 2]   None for symmetric activations, where it is 0
    float_steps   bool [steps]
    weight_f      float32 [N, K]    what weight_q stands for; None when no step needs it
    sqnr_db       float             weight signal to quantization noise, dB; None as weight_q
    ============  ================  =================================================================
    """

    weight_q: NDArray[np.int8] | None
    weight_scale: Floats | None
    bias: Floats
    input_gain: Floats | None
    scale: Floats
    zero_point: NDArray[np.int8] | None
    float_steps: NDArray[np.bool_]
    weight_f: Floats | None
    sqnr_db: float | None

    def __post_init__(self) -> None:
        for name, scale in (("scale", self.scale), ("weight_scale", self.weight_scale)):
            if scale is not None and not (np.isfinite(scale).all() and (scale >= LEAST_SCALE).all()):
                raise QuantizeError(f"{name}: expected positive normal numbers, got {scale.min()} to {scale.max()}")
        if (self.weight_q is None) != bool(self.float_steps.all()):
            raise QuantizeError("weight_q: expected one exactly when a step is quantized; quantize again")
        if (self.weight_f is None) != (not self.float_steps.any()):
            raise QuantizeError("weight_f: expected one exactly when a step stays in float; quantize again")
        self._check_shapes()

    def bias_at(self, step: int, branch: int) -> Floats:
        """float32 [N]."""
        return self.bias if self.bias.ndim == 1 else self.bias[step, branch]

    def _check_shapes(self) -> None:
        matrix = self.weight_f if self.weight_q is None else self.weight_q
        assert matrix is not None
        n, k = matrix.shape
        steps = len(self.float_steps)
        wanted = {
            "weight_scale": (n,),
            "bias": (n,) if self.bias.ndim == 1 else (steps, 2, n),
            "input_gain": (k,),
            "scale": (steps, 2),
            "zero_point": (steps, 2),
            "weight_f": (n, k),
        }
        for name, shape in wanted.items():
            part = getattr(self, name)
            if part is not None and part.shape != shape:
                raise QuantizeError(f"{name}: expected {list(shape)}, got {list(part.shape)}; quantize again")


@dataclass(frozen=True, eq=False)
class Fold:
    """A vector that depends on the step: (record[offset : offset + hidden] + base) * gain - center[step, branch].

    ``base`` float32 [hidden] is 1 + table row for scales, the table row for shifts and gates; ``gain``
    float32 [hidden] is 1 / smoothing of the layer that follows, or None; ``center`` float32 [steps, 2, hidden] is
    subtracted from a shift, and its product added to the layer's bias, or None: both branches have the same vector.
    """

    offset: int
    base: Floats
    gain: Floats | None
    center: Floats | None = None

    def evaluate(self, record: Floats) -> Floats:
        """float32 [7 * hidden] -> float32 [hidden]: one sum, then one product, each rounded once to float32.

        The C runtime repeats exactly this (AFFINE in tvm_flow_library.h) and gets the same bits. No center.
        """
        total = record[self.offset : self.offset + len(self.base)] + self.base
        return total if self.gain is None else total * self.gain

    def at(self, records: Floats, step: int, branch: int) -> Floats:
        """float32 [hidden] at one step and branch: `evaluate`, and a center subtracted (LESS in tvm_flow_library.h)."""
        total = self.evaluate(records[step])
        return total if self.center is None else total - self.center[step, branch]


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """All that a step graph is made of; nothing of it depends on a timestep network.

    ==================  ===========================================================================
    layers              the quantized linears, by module path, in the order they run
    folds               ``<block>.{msa,mlp}_{shift,scale,gate}``, ``final.{shift,scale}``; the modulated
                        LayerNorm of a step is LN(x) * scale + shift
    params              float32 parameters under the model's own keys: x_embedder.proj.*,
                        y_embedder.y_proj.*, y_embedder.y_embedding, <block>.attn.{q,k}_norm.weight
                        (STDiT3), final_layer.linear.*
    tables              those that `TABLES` lists for the model:
                        position_embedding  float32 [S, hidden], tokens of a frame row-major
                        rope_cos, rope_sin  float32 [T, head_dim], for pairs (x[2k], x[2k+1]) as in
                                            model.positions.rotate
                        time_embedding      float32 [T, hidden], added to what the temporal attention
                                            of block 0 reads
    step_records        float32 [steps, 7 * hidden]: t0 (6 * hidden), then t_emb (hidden)
    timesteps           float64 [steps], of ``sampler``
    updates             float64 [steps, 5], of ``sampler``: see `tvm_flow.sampler.update`; or corrected by `affine`
    reach               of a recipe between integer: how far what lies between linears reaches,
                        float32 [steps, 2, parts], see `tvm_flow.quantize.integer_model`; of one
                        with attention int8: the scales of q, k and v of every attention, float32
                        [steps, 2, 3], see `tvm_flow.quantize.simulated_attention`; else empty
    latent              shape [C, T, H, W] of the latent that ``tables`` were made for
    model_sha256        of the float checkpoint; calibration and quantization used the same
    ==================  ===========================================================================
    """

    config: AnyConfig
    sampler: SamplerConfig
    recipe: Recipe
    latent: tuple[int, int, int, int]
    model_sha256: str
    layers: Mapping[str, QuantizedLayer]
    folds: Mapping[str, Fold]
    params: Mapping[str, Floats]
    tables: Mapping[str, Floats]
    step_records: Floats
    timesteps: NDArray[np.float64]
    updates: NDArray[np.float64]
    reach: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = layer_names(self.config)
        if tuple(self.layers) != names:
            raise QuantizeError(
                f"layers: expected the {len(names)} of the config, {names[0]} to {names[-1]}, "
                f"got {len(self.layers)}; quantize again"
            )
        tables = TABLES[self.config.model_type]
        if set(self.tables) != set(tables):
            raise QuantizeError(f"tables: expected {', '.join(tables)}, got {sorted(self.tables)}; quantize again")
        shape = (self.sampler.steps, 7 * self.config.hidden)
        steps = {len(layer.float_steps) for layer in self.layers.values()}
        if self.step_records.shape != shape or steps != {self.sampler.steps}:
            raise QuantizeError(
                f"step_records: expected {list(shape)}, got {list(self.step_records.shape)} "
                f"and layers of {sorted(steps)} steps; quantize again"
            )
        if bool(self.reach) != self.recipe.measures_more:
            raise QuantizeError(
                "reach: expected one exactly where the recipe is between integer or has attention int8; quantize again"
            )

    @property
    def output_channels(self) -> int:
        """Channels of a step graph: those of the latent, and as many again where the sampler needs the variance."""
        return self.latent[0] * (2 if self.sampler.learned_variance else 1)

    def evaluate(self, fold: str, step: int, branch: int = 0) -> Floats:
        """The vector ``fold`` at ``step``, float32 [hidden]; raises QuantizeError if there is no such one.

        Only one with a center differs between the branches.
        """
        if fold not in self.folds:
            raise QuantizeError(f"fold {fold!r}: unknown; folds are called {', '.join(list(self.folds)[:6])}, ...")
        if not 0 <= step < len(self.step_records):
            raise QuantizeError(f"step: expected 0 to {len(self.step_records) - 1}, got {step}")
        return self.folds[fold].at(self.step_records, step, branch)
