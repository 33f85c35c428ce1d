"""Training of the demo's autoencoder on single frames."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import trange

from tvm_flow.artifact import atomic_path
from tvm_flow.demo.captions import all_scenes
from tvm_flow.demo.clips import FRAMES, Garments, random_place, render
from tvm_flow.demo.vae import VAE

NOISE = 0.1  # of the latent's deviation, while training
POOL = 20000  # frames rendered once and drawn from


def random_frames(garments: Garments, count: int, generator: torch.Generator) -> Tensor:
    """Frames of random clips, float32 [count, 1, 32, 32, 3] in 0..1: one frame a clip."""
    scenes = all_scenes()
    frames = []
    for row in torch.randint(len(garments.labels), (count,), generator=generator).tolist():
        scene = scenes[int(torch.randint(len(scenes), (), generator=generator))]
        frame = int(torch.randint(FRAMES, (), generator=generator))
        frames.append(render(garments.images[row], scene, *random_place(scene, generator))[frame])
    return torch.stack(frames)[:, None]


def train_vae(garments: Garments, output: Path, steps: int = 3000, batch: int = 64, seed: int = 0) -> VAE:
    """Fit the autoencoder by squared error, then measure the latents' mean and deviation per channel.

    Writes ``output`` (fp16 safetensors). Latents get a little noise while training, so that the decoder
    forgives small errors of the generator.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vae = VAE()
    pool = random_frames(garments, POOL, generator)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.05)
    bar = trange(steps, desc="vae", mininterval=5)
    for _ in bar:
        frames = pool[torch.randint(len(pool), (batch,), generator=generator)]
        latent = vae.encode(frames)
        # Relative to the latent's spread, or the encoder would outgrow the noise.
        noisy = latent + NOISE * latent.detach().std() * torch.randn(latent.shape, generator=generator)
        decoded = vae.decoder(noisy.transpose(1, 2).flatten(0, 1))
        loss = F.mse_loss(decoded, frames.flatten(0, 1).permute(0, 3, 1, 2) * 2 - 1)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        bar.set_postfix(mse=f"{loss.item():.5f}")
    _standardise(vae, pool[:4000])
    with atomic_path(output) as path:
        save_file({key: value.half() for key, value in vae.state_dict().items()}, path)
    return vae


@torch.no_grad()
def _standardise(vae: VAE, frames: Tensor) -> None:
    latent = vae.encode(frames)
    vae.shift.copy_(latent.mean((0, 2, 3, 4)))
    vae.scale.copy_(latent.std((0, 2, 3, 4)))


@torch.no_grad()
def psnr(vae: VAE, frames: Tensor) -> float:
    """Reconstruction quality in dB over frames [N, 1, 32, 32, 3] in 0..1."""
    return float(-10 * torch.log10(F.mse_loss(vae.decode(vae.encode(frames)), frames)))
