"""Minibatches for the demo's rectified flow and for its diffusion: latents of rendered clips, made noisy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tvm_flow.demo.captions import TEMPLATES, all_scenes
from tvm_flow.demo.clips import Garments, random_place, render
from tvm_flow.demo.vae import VAE
from tvm_flow.sampler.schedule import DIFFUSION_STEPS, make_schedule

RATIO = 3.0  # timestep transform, in training and in sampling


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
        clips = [render(garments.images[row], scene, *random_place(scene, generator)) for row in drawn]
        latents.append(vae.encode(torch.stack(clips)).half())
        index += [number] * per_scene
    return LatentClips(torch.cat(latents), torch.tensor(index))


def shift_time(u: Tensor, ratio: float = RATIO) -> Tensor:
    """Uniform u in 0..1 -> t' = ratio * u / (1 + (ratio - 1) * u): more of the noisy end."""
    return ratio * u / (1 + (ratio - 1) * u)


class Batches:
    """Random minibatches of ``batch`` clips; a share ``drop`` of the captions becomes the null caption."""

    def __init__(self, clips: LatentClips, tokens: Tensor, lengths: Tensor, batch: int, drop: float, seed: int) -> None:
        self.clips, self.tokens = clips, tokens.float()
        self.batch, self.drop = batch, drop
        self.masks = torch.arange(tokens.shape[1])[None] < lengths[:, None]
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, null: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(z_t, t in 0..1000, captions, masks, data - noise); a dropped caption becomes ``null``."""
        data, noise, u, y, mask = self.drawn(null)
        t = shift_time(u)
        z = data + _each(t) * (noise - data)
        return z, t * 1000, y, mask, data - noise

    def drawn(self, null: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(data, noise, time in 0..1, captions, masks)."""
        n, g = self.batch, self.generator
        rows = torch.randint(len(self.clips.scenes), (n,), generator=g)
        data = self.clips.latents[rows].float()
        template = torch.randint(len(TEMPLATES), (n,), generator=g)
        captions = template * len(all_scenes()) + self.clips.scenes[rows]
        noise = torch.randn(data.shape, generator=g)
        # Stratified over the batch: less variance of the loss at no cost.
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        dropped = torch.rand(n, generator=g) < self.drop
        y = torch.where(dropped[:, None, None], null, self.tokens[captions])
        return data, noise, u, y, self.masks[captions]


class NoisyBatches(Batches):
    """The same for a model that predicts noise, on Open-Sora v1.0's schedule."""

    def draw(self, null: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(z_t, t whole in 0..999, captions, masks, noise)."""
        data, noise, u, y, mask = self.drawn(null)
        t = (u * DIFFUSION_STEPS).long().clamp(max=DIFFUSION_STEPS - 1)
        # The schedule is in order of denoising: its first entry is that of step 999.
        kept = torch.from_numpy(make_schedule(DIFFUSION_STEPS).alpha_bar)[DIFFUSION_STEPS - 1 - t].float()
        z = _each(kept.sqrt()) * data + _each((1 - kept).sqrt()) * noise
        return z, t.float(), y, mask, noise


def _each(values: Tensor) -> Tensor:
    """[n] -> [n, 1, 1, 1, 1]."""
    return values[:, None, None, None, None]
