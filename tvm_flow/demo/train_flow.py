"""Training of the demo's STDiT3 as a rectified flow on latents of rendered clips."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import trange

from tvm_flow.artifact import atomic_path
from tvm_flow.demo.captions import TEMPLATES, Scene, all_scenes
from tvm_flow.demo.clips import SIZE, Garments, random_place, render
from tvm_flow.demo.vae import VAE
from tvm_flow.model import STDiT3

FPS = 8.0
RATIO = 3.0  # timestep transform, in training and in sampling


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


@dataclass(frozen=True)
class LatentClips:
    """Latents fp16 [N, 8, 8, 8, 8] and the index of each clip's scene in ``all_scenes()``, int64 [N]."""

    latents: Tensor
    scenes: Tensor


@torch.no_grad()
def encode_clips(garments: Garments, vae: VAE, per_scene: int, seed: int) -> LatentClips:
    """Render and encode ``per_scene`` clips of every scene, from randomly drawn garments and places."""
    generator = torch.Generator().manual_seed(seed)
    latents, index = [], []
    for number, scene in enumerate(all_scenes()):
        rows = torch.nonzero(garments.labels == scene.garment)[:, 0]
        drawn = rows[torch.randint(len(rows), (per_scene,), generator=generator)]
        clips = [render(garments.images[row], scene, *random_place(generator)) for row in drawn]
        latents.append(vae.encode(torch.stack(clips)).half())
        index += [number] * per_scene
    return LatentClips(torch.cat(latents), torch.tensor(index))


def caption_row(scene: Scene | int, template: int) -> int:
    """Row of a scene's caption in the stored embeddings."""
    number = scene if isinstance(scene, int) else all_scenes().index(scene)
    return template * len(all_scenes()) + number


def shift_time(u: Tensor, ratio: float = RATIO) -> Tensor:
    """Uniform u in 0..1 -> t' = ratio * u / (1 + (ratio - 1) * u): more of the noisy end."""
    return ratio * u / (1 + (ratio - 1) * u)


def initialise(model: STDiT3) -> None:
    """Xavier linears, open gates, and a final layer that predicts zero."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for block in [*model.spatial_blocks, *model.temporal_blocks]:
        nn.init.zeros_(block.scale_shift_table)
        nn.init.ones_(block.scale_shift_table[2:3])
        nn.init.ones_(block.scale_shift_table[5:6])
        nn.init.zeros_(block.cross_attn.proj.weight)
    nn.init.zeros_(model.final_layer.linear.weight)


class Batches:
    """Random minibatches: noisy latents, times, captions with some dropped, velocities to predict."""

    def __init__(self, clips: LatentClips, tokens: Tensor, lengths: Tensor, run: FlowTraining) -> None:
        self.clips, self.tokens, self.run = clips, tokens.float(), run
        self.masks = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        self.generator = torch.Generator().manual_seed(run.seed)

    def draw(self, null: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(z_t, t in 0..1000, captions, masks, data - noise); a dropped caption becomes ``null``."""
        n, g = self.run.batch, self.generator
        rows = torch.randint(len(self.clips.scenes), (n,), generator=g)
        data = self.clips.latents[rows].float()
        template = torch.randint(len(TEMPLATES), (n,), generator=g)
        captions = template * len(all_scenes()) + self.clips.scenes[rows]
        noise = torch.randn(data.shape, generator=g)
        # Stratified over the batch: less variance of the loss at no cost.
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        t = shift_time(u)
        z = data + t[:, None, None, None, None] * (noise - data)
        dropped = torch.rand(n, generator=g) < self.run.drop
        y = torch.where(dropped[:, None, None], null, self.tokens[captions])
        return z, t * 1000, y, self.masks[captions], data - noise


def flow_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Mean squared error of the predicted velocity; bf16 matmuls, a third faster where the core has them."""
    z, t, y, mask, velocity = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(z, t, y, mask, FPS, float(SIZE), float(SIZE))
    return F.mse_loss(out[:, : z.shape[1]], velocity)


def learning_rate(step: int, run: FlowTraining) -> float:
    """Linear warm-up, a plateau, and a linear fall to zero over the last ``decay`` of the run."""
    left = (run.steps - step) / (run.decay * run.steps)
    return run.rate * min(1.0, (step + 1) / run.warmup, left)


def train_flow(
    model: STDiT3, clips: LatentClips, tokens: Tensor, lengths: Tensor, run: FlowTraining, state: Path
) -> STDiT3:
    """Train ``model`` and return its exponential moving average.

    ``state`` is rewritten every ``save_every_s`` seconds; a run whose ``state`` exists goes on from it.
    """
    torch.manual_seed(run.seed)
    initialise(model)
    ema = copy.deepcopy(model).requires_grad_(False)
    batches = Batches(clips, tokens, lengths, run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=run.rate, betas=(0.9, 0.99), weight_decay=0.01)
    start = _resume(state, model, ema, optimizer, batches.generator)
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
            _save(state, step + 1, run, model, ema, optimizer, batches.generator)
    return ema


@torch.no_grad()
def _average(ema: STDiT3, model: STDiT3, decay: float) -> None:
    pairs = list(zip(ema.parameters(), model.parameters(), strict=True))
    torch._foreach_lerp_([old for old, _ in pairs], [new.detach() for _, new in pairs], 1 - decay)


def _save(
    state: Path,
    step: int,
    run: FlowTraining,
    model: STDiT3,
    ema: STDiT3,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    with atomic_path(state) as path:
        torch.save(
            {
                "step": step,
                "run": asdict(run),
                "model": model.state_dict(),
                "ema": ema.state_dict(),
                "optimizer": optimizer.state_dict(),
                "generator": generator.get_state(),
            },
            path,
        )


def _resume(
    state: Path, model: STDiT3, ema: STDiT3, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> int:
    if not state.exists():
        return 0
    saved = torch.load(state, weights_only=True)
    model.load_state_dict(saved["model"])
    ema.load_state_dict(saved["ema"])
    optimizer.load_state_dict(saved["optimizer"])
    generator.set_state(saved["generator"])
    return int(saved["step"])
