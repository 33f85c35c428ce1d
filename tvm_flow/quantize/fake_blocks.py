"""The blocks of a quantized model at one step, in PyTorch: folded vectors in place of modulation by time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_flow.model import STDiT3Block, STDiTBlock
from tvm_flow.model.layers import NORM_EPS, CrossAttention, Mlp
from tvm_flow.model.tokens import across_frames, within_frames
from tvm_flow.quantize.quantized import Floats, QuantizedModel


@dataclass(frozen=True, eq=False)
class FakeStep:
    """The vectors and tables of ``quantized`` at one step and branch, as tensors of ``dtype``."""

    quantized: QuantizedModel
    step: int
    branch: int
    dtype: torch.dtype

    def modulated(self, x: Tensor, name: str) -> Tensor:
        """LayerNorm(x) * scale + shift, by the folds of ``name``."""
        separator = "." if name == "final" else "_"
        norm = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return norm * self.vector(f"{name}{separator}scale") + self.vector(f"{name}{separator}shift")

    def vector(self, fold: str) -> Tensor:
        """[hidden]."""
        return as_tensor(self.quantized.evaluate(fold, self.step, self.branch), self.dtype)

    def table(self, name: str) -> Tensor:
        """One of ``QuantizedModel.tables``."""
        return as_tensor(self.quantized.tables[name], self.dtype)


@dataclass(frozen=True, eq=False)
class FakeBlock:
    """A block whose linears are fake-quantized; ``name`` is its module path."""

    name: str
    module: STDiTBlock | STDiT3Block
    cross_attn: CrossAttention
    mlp: Mlp

    def run(self, step: FakeStep, x: Tensor, caption: Tensor, bias: Tensor, frames: int) -> Tensor:
        """x [B, T*S, C], caption [B, L, C], bias [B, 1, 1, L] -> [B, T*S, C]."""
        attend = _attend_stdit if isinstance(self.module, STDiTBlock) else _attend_stdit3
        x = attend(self, step, x, frames)
        x = x + self.cross_attn(x, caption, bias)
        mixed = self.mlp(step.modulated(x, f"{self.name}.mlp"))
        out: Tensor = x + step.vector(f"{self.name}.mlp_gate") * mixed
        return out


def _attend_stdit3(block: FakeBlock, step: FakeStep, x: Tensor, frames: int) -> Tensor:
    assert isinstance(block.module, STDiT3Block)
    grid, attention = within_frames, block.module.attn
    run: Callable[[Tensor], Tensor] = attention
    if block.module.temporal:
        grid, run = across_frames, partial(attention, rope=(step.table("rope_cos"), step.table("rope_sin")))
    return x + step.vector(f"{block.name}.msa_gate") * grid(run, step.modulated(x, f"{block.name}.msa"), frames)


def _attend_stdit(block: FakeBlock, step: FakeStep, x: Tensor, frames: int) -> Tensor:
    assert isinstance(block.module, STDiTBlock)
    gate = step.vector(f"{block.name}.msa_gate")
    x = x + gate * within_frames(block.module.attn, step.modulated(x, f"{block.name}.msa"), frames)
    read = x
    if block.name == "blocks.0":
        read = x + step.table("time_embedding").repeat_interleave(x.shape[1] // frames, dim=0)
    return x + gate * across_frames(block.module.attn_temp, read, frames)


def as_tensor(values: Floats, dtype: torch.dtype) -> Tensor:
    """``values`` as a tensor of ``dtype``."""
    return torch.from_numpy(values).to(dtype)
