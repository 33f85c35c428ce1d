"""What a block in integers is made of: linears, and how the tensors between them become codes, at one step and branch.

Real value = code * scale, everywhere. The residual has 16 bits in one unit from the first block to the last, so that no
block rescales it; what a linear reads has 8 bits by the scales of `tvm_flow.quantize.simulated`; q, k and v have 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import QuantizeError

Array = npt.NDArray[Any]
_MOST_BIAS = 1 << 30


@dataclass(frozen=True, eq=False)
class Codes:
    """What a linear reads: rint(x gain / scale); ``gain`` [K], or None for 1."""

    scale: float
    gain: Array | None = None

    @property
    def steps(self) -> Array:
        """Of x, in codes: float64 [K] or [1]."""
        return (np.ones(1) if self.gain is None else self.gain.astype(np.float64)) / self.scale


@dataclass(frozen=True, eq=False)
class IntegerLinear:
    """``weight`` int8 [N, K]; a sum of products stands for ``scale`` [N], float64; ``bias`` float64 [N] is added."""

    weight: Array
    scale: Array
    bias: Array

    @property
    def biases(self) -> Array:
        """int32 [N], in units of the sums; raises QuantizeError where they leave no room for sums."""
        whole = np.rint(self.bias / self.scale)
        if not (np.abs(whole) < _MOST_BIAS).all():
            raise QuantizeError(f"bias: expected less than 2^30 sums, got {np.abs(whole).max()}; keep it in float")
        return whole.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Modulation:
    """LayerNorm(x) * scale + shift, float32 [C] each, without what ``codes`` multiply by."""

    scale: Array
    shift: Array
    codes: Codes


@dataclass(frozen=True, eq=False)
class Head:
    """q or k: the scale of its codes, and the RMS norm's weight [d] where there is one."""

    scale: float
    weight: Array | None = None


@dataclass(frozen=True, eq=False)
class Gated:
    """A linear that ends in the residual: its input's codes, the range of its result, and the gate [C] or None."""

    codes: Codes
    linear: IntegerLinear
    reach: float
    gate: Array | None


@dataclass(frozen=True, eq=False)
class SelfAttention:
    """Among places, or frames where ``temporal``.

    ============  ==================================================================================================
    reads         the modulated norm of the residual, or the residual itself
    added         [T, C], real, what is added to the residual before it is read: the frames' embedding; or None
    qkv_reach     of qkv's results that are normalised, as 16 bits hold them; None where they become codes at once
    rope          (cos, sin), each [T, d], pairs side by side, where q and k are turned; or None
    ============  ==================================================================================================
    """

    temporal: bool
    reads: Modulation | Codes
    qkv: IntegerLinear
    q: Head
    k: Head
    v: float
    proj: Gated
    added: Array | None = None
    qkv_reach: float | None = None
    rope: tuple[Array, Array] | None = None


@dataclass(frozen=True, eq=False)
class CrossAttention:
    """To the caption, whose codes ``kv`` reads."""

    reads: Codes
    q_linear: IntegerLinear
    q: float
    caption: Codes
    kv: IntegerLinear
    k: float
    v: float
    proj: Gated


@dataclass(frozen=True, eq=False)
class IntegerBlock:
    """A block at one step and branch; ``unit`` is the residual's."""

    unit: float
    frames: int
    heads: int
    attentions: tuple[SelfAttention, ...]
    cross: CrossAttention
    mlp_reads: Modulation
    fc1: IntegerLinear
    mlp: Gated
