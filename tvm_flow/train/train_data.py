"""Minibatches for the demo's rectified flow: latents of rendered clips, made noisy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tvm_flow.demo.captions import TEMPLATES, all_scenes
from tvm_flow.demo.clips import Garments, random_place, render
from tvm_flow.demo.vae import VAE

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
        n, g = self.batch, self.generator
        rows = torch.randint(len(self.clips.scenes), (n,), generator=g)
        data = self.clips.latents[rows].float()
        template = torch.randint(len(TEMPLATES), (n,), generator=g)
        captions = template * len(all_scenes()) + self.clips.scenes[rows]
        noise = torch.randn(data.shape, generator=g)
        # Stratified over the batch: less variance of the loss at no cost.
        u = (torch.arange(n) + torch.rand(n, generator=g)) / n
        t = shift_time(u)
        z = data + t[:, None, None, None, None] * (noise - data)
        dropped = torch.rand(n, generator=g) < self.drop
        y = torch.where(dropped[:, None, None], null, self.tokens[captions])
        return z, t * 1000, y, self.masks[captions], data - noise
