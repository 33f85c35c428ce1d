"""Training on latents of rendered clips: an STDiT3 as a rectified flow, an STDiT to predict noise."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from tvm_flow.artifact import atomic_path
from tvm_flow.demo.clips import SIZE
from tvm_flow.model import AnyModel, STDiT, STDiT3, STDiT3Block, STDiTBlock, Video
from tvm_flow.train.train_data import Batches, LatentClips, NoisyBatches

FPS = 8.0
Model = TypeVar("Model", STDiT, STDiT3)


@dataclass(frozen=True)
class FlowTraining:
    """Choices of one run; over the last ``decay`` of it the learning rate falls to zero."""

    steps: int
    batch: int = 16
    rate: float = 2e-3
    warmup: int = 200
    decay: float = 0.35
    drop: float = 0.12
    ema: float = 0.999
    seed: int = 0
    save_every_s: float = 120.0


def initialise(model: AnyModel) -> None:
    """Xavier linears, open gates, and a final layer that predicts zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in model.modules():
        if isinstance(block, STDiTBlock | STDiT3Block):
            nn.init.zeros_(block.scale_shift_table)
            nn.init.ones_(block.scale_shift_table[2:3])
            nn.init.ones_(block.scale_shift_table[5:6])
            nn.init.zeros_(block.cross_attn.proj.weight)
    nn.init.zeros_(model.final_layer.linear.weight)


def flow_loss(model: nn.Module, batch: Sequence[Tensor], autocast: bool = True) -> Tensor:
    """Mean squared error of the predicted velocity or noise; bf16 matmuls, a third faster where the core has them."""
    z, t, y, mask, wanted = batch
    native = torch.cpu._is_avx512_bf16_supported()  # emulated, bf16 takes ten times as long as float32
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast and native):
        out = model(z, t, y, mask, Video(FPS, float(SIZE), float(SIZE)))
    return F.mse_loss(out[:, : z.shape[1]], wanted)


@torch.no_grad()
def held_out_loss(model: AnyModel, clips: LatentClips, tokens: Tensor, lengths: Tensor, seed: int = 1) -> float:
    """Mean loss in fp32 over ``clips`` with undropped captions and fixed noise and times."""
    batches = batches_for(model)(clips, tokens, lengths, batch=16, drop=0.0, seed=seed)
    count = len(clips.scenes) // batches.batch
    null = model.y_embedder.y_embedding
    return sum(flow_loss(model, batches.draw(null), autocast=False).item() for _ in range(count)) / count


def batches_for(model: AnyModel) -> type[Batches]:
    """Minibatches of what ``model`` predicts."""
    return NoisyBatches if isinstance(model, STDiT) else Batches


def learning_rate(step: int, run: FlowTraining) -> float:
    """Linear warm-up, a plateau, and a linear fall to zero over the last ``decay`` of the run."""
    left = (run.steps - step) / (run.decay * run.steps)
    return run.rate * min(1.0, (step + 1) / run.warmup, left)


@dataclass(frozen=True)
class _Moving:
    """What training changes, and what a state file therefore holds."""

    model: AnyModel
    ema: AnyModel
    optimizer: torch.optim.Optimizer
    generator: torch.Generator

    def parts(self) -> dict[str, AnyModel | torch.optim.Optimizer]:
        """By their keys in the file."""
        return {"model": self.model, "ema": self.ema, "optimizer": self.optimizer}


def train_flow(
    model: Model, clips: LatentClips, tokens: Tensor, lengths: Tensor, run: FlowTraining, state: Path
) -> Model:
    """Train ``model`` and return its exponential moving average.

    ``state`` is rewritten every ``save_every_s`` seconds; a run whose ``state`` exists goes on from it.
    """
    torch.manual_seed(run.seed)
    initialise(model)
    ema = copy.deepcopy(model).requires_grad_(False)
    batches = batches_for(model)(clips, tokens, lengths, run.batch, run.drop, run.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.rate, betas=(0.9, 0.99), weight_decay=0.01)
    moving = _Moving(model, ema, optimizer, batches.generator)
    start = _resume(state, moving)
    saved, mean = time.monotonic(), 1.0
    bar = trange(start, run.steps, initial=start, total=run.steps, desc="flow", mininterval=20)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, run)
        loss = flow_loss(model, batches.draw(model.y_embedder.y_embedding))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        _average(ema, model, min(run.ema, (1 + step) / (10 + step)))
        mean += 0.02 * (loss.item() - mean)
        bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
        if time.monotonic() - saved > run.save_every_s or step + 1 == run.steps:
            saved = time.monotonic()
            _save(state, step + 1, run, moving)
    return ema


@torch.no_grad()
def _average(ema: AnyModel, model: AnyModel, decay: float) -> None:
    pairs = list(zip(ema.parameters(), model.parameters(), strict=True))
    torch._foreach_lerp_([old for old, _ in pairs], [new.detach() for _, new in pairs], 1 - decay)


def _save(state: Path, step: int, run: FlowTraining, moving: _Moving) -> None:
    parts = {name: part.state_dict() for name, part in moving.parts().items()}
    whole = {"step": step, "run": asdict(run), **parts, "generator": moving.generator.get_state()}
    with atomic_path(state) as path:
        torch.save(whole, path)


def _resume(state: Path, moving: _Moving) -> int:
    if not state.exists():
        return 0
    saved = torch.load(state, weights_only=True)
    for name, part in moving.parts().items():
        part.load_state_dict(saved[name])
    moving.generator.set_state(saved["generator"])
    return int(saved["step"])
