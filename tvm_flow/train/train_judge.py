"""Training of the judge's class network, on images that the generator never sees."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from tqdm import trange

from tvm_flow.artifact import atomic_path
from tvm_flow.demo.captions import all_scenes
from tvm_flow.demo.clips import GARMENT, SIZE, Garments, random_place, render
from tvm_flow.quality.judge import Judge


def train_judge(garments: Garments, output: Path, epochs: int = 8, batch: int = 128, seed: int = 0) -> Judge:
    """Fit the class network to single grey frames with blur, noise and dimming; write ``output`` in fp16."""
    torch.manual_seed(seed)
    judge = Judge()
    steps = epochs * len(garments.labels) // batch
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.15)
    bar = trange(steps, desc="judge", mininterval=10)
    for _ in bar:
        rows = torch.randint(len(garments.labels), (batch,))
        loss = F.cross_entropy(judge(disturb(garments.images[rows])), garments.labels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    with atomic_path(output) as path:
        save_file({key: value.half() for key, value in judge.state_dict().items()}, path)
    judge.load_state_dict({key: value.half().float() for key, value in judge.state_dict().items()})
    return judge.eval()


def disturb(images: Tensor) -> Tensor:
    """Garments [N, 16, 16] at random places of grey frames [N, 32, 32], dimmed, blurred, noisy."""
    frames = torch.zeros(len(images), SIZE, SIZE)
    places = torch.randint(SIZE - GARMENT + 1, (len(images), 2)).tolist()
    for frame, image, (y, x) in zip(frames, images, places, strict=True):
        frame[y : y + GARMENT, x : x + GARMENT] = image
    blurred = F.avg_pool2d(frames[:, None], 3, stride=1, padding=1)[:, 0]
    amount = torch.rand(len(images), 1, 1) * (torch.rand(len(images), 1, 1) < 0.5)
    frames = (frames + amount * (blurred - frames)) * (0.7 + 0.3 * torch.rand(len(images), 1, 1))
    return (frames + 0.03 * torch.randn(frames.shape)).clamp(0, 1)


def real_clips(garments: Garments, count: int, seed: int) -> tuple[Tensor, list[str]]:
    """Clips of given garments, float32 [count, 8, 32, 32, 3], and their captions; scenes drawn evenly."""
    generator = torch.Generator().manual_seed(seed)
    scenes = all_scenes()
    clips, captions = [], []
    for number in range(count):
        scene = scenes[number % len(scenes)]
        rows = torch.nonzero(garments.labels == scene.garment)[:, 0]
        row = rows[torch.randint(len(rows), (), generator=generator)]
        clips.append(render(garments.images[row], scene, *random_place(scene, generator)))
        captions.append(scene.caption(number % 3))
    return torch.stack(clips), captions
