"""Attention whose two products are of 8 bit codes, in PyTorch: the softmax between them is in float.

`tvm_flow.export.code_attention` writes the same as a QDQ graph.

    s = q k^T           int8 x int8: q, k and v have one scale each for a tensor, step and branch, from calibration
    e = exp(s - max s)  in float, of the scores with their scale and 1 / sqrt(d)
    p = round(255 e)    uint8: e is never negative, so a sign would waste half of the codes
    (p v) / sum p       uint8 x int8, times v's scale

e is rounded before it is divided by its sum: of L even scores every weight is 1 / L, in which 1 / 255 would be one code
or none from 256 keys on, while e has the greatest of a row at 255 whatever L is. The sum is that of the codes, so that
the weights add up to one; as a column of ones beside v it is an integer product, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvm_flow.calibrate.attended import Attended, Mixed, attending
from tvm_flow.model import AnyModel
from tvm_flow.numerics.quantize import LEAST_SCALE, greatest_code
from tvm_flow.quantize.grouping import Groups
from tvm_flow.quantize.simulated import Clock, StaticCodes

Floats = NDArray[np.float32]
BITS = 8
GREATEST_WEIGHT = 2**BITS - 1
"""The code of 1."""


@dataclass(frozen=True, eq=False)
class AttentionCodes:
    """How the q, k and v of one attention become codes."""

    q: StaticCodes
    k: StaticCodes
    v: StaticCodes

    def mixed(self, step: int, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `model.layers.attend` of [2 * n, heads, L, d], whose first half is cond."""
        (q, q_unit), (k, k_unit), (v, v_unit) = (
            codes.encode(x.unflatten(0, (2, -1)), step)  # type: ignore[no-untyped-call]
            for codes, x in ((self.q, q), (self.k, k), (self.v, v))
        )
        scores = (q @ k.transpose(-1, -2)) * (q_unit * k_unit * q.shape[-1] ** -0.5)
        if bias is not None:
            scores += bias.unflatten(0, (2, -1))  # type: ignore[no-untyped-call]
        weights = (scores - scores.amax(-1, keepdim=True)).exp_().mul_(GREATEST_WEIGHT).round_()
        mixed: Tensor = (weights @ v) * (v_unit / weights.sum(-1, keepdim=True))
        return mixed.flatten(0, 1).transpose(1, 2).flatten(2)


def attention_codes(attended: Attended, groups: Groups, shared: bool) -> dict[str, AttentionCodes]:
    """Of every attention, from what it saw: symmetric, of the greatest magnitude in a step's group.

    ``shared`` joins the branches. The caption's k and v are made once a prompt, so all steps share theirs.
    """
    once = torch.zeros(len(groups), dtype=torch.int64)
    each, found = torch.from_numpy(groups), {}
    for name, most in attended.items():
        most = most.amax(1, keepdim=True).expand_as(most) if shared else most
        of_keys = once if name.endswith("cross_attn") else each
        parts = zip(most.unbind(-1), (each, of_keys, of_keys), strict=True)
        found[name] = AttentionCodes(*(_codes(part, joined) for part, joined in parts))
    return found


def attention_scales(attended: Attended, groups: Groups, shared: bool) -> dict[str, Floats]:
    """float32 [steps, 2, 3] of q, k and v: those of `attention_codes`."""
    codes = attention_codes(attended, groups, shared)
    return {
        name: torch.stack([part.scale for part in (each.q, each.k, each.v)], -1).float().numpy()
        for name, each in codes.items()
    }


def _codes(most: Tensor, groups: Tensor) -> StaticCodes:
    """Of magnitudes [steps, 2]."""
    joined = torch.stack([most[groups == group].amax(0) for group in groups])
    scale = joined / greatest_code(BITS)
    scale = torch.where(scale < float(LEAST_SCALE), 1.0, scale)
    return StaticCodes(scale, torch.zeros_like(scale), (BITS,) * len(scale))


@contextmanager
def attending_in_int8(model: AnyModel, codes: Mapping[str, AttentionCodes], clock: Clock) -> Iterator[None]:
    """Inside the block the attentions ``codes`` of ``model`` multiply codes; ``clock`` says which step."""
    with attending(model, {name: _at(each, clock) for name, each in codes.items()}):
        yield


def _at(codes: AttentionCodes, clock: Clock) -> Mixed:
    return lambda *tensors: codes.mixed(clock.step, *tensors)
