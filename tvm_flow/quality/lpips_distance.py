"""LPIPS: how different two pictures look, by what a network that was trained on photographs sees in them.

    d(x, y) = sum over taps l of  mean over places of  sum over channels c of  w_lc (f_lc(x) - f_lc(y))^2

where f_l are the outputs of a ReLU, divided at each place by their length over channels (plus 1e-10), and w_l >= 0 the
linear heads, trained on human judgements. Pictures enter in -1..1, shifted and scaled to ImageNet's statistics.
Zhang et al., CVPR 2018 (arXiv 1801.03924), version 0.1; AlexNet's backbone is the field's default, VGG's the other.

A video's score is the mean over its frames to FP32's frames at equal noise; 0 is equal. FP32's own has beside it what
the same prompt gives at another seed (``lpips_other_seed``): a distance has no other noise to be held against.

Weights are two files: torchvision's backbone (alexnet-owt-7be5be79.pth or vgg16-397923af.pth, of
https://download.pytorch.org/models), and the heads, ``alex.pth`` or ``vgg.pth`` beside it, else those that the package
lpips ships (``lpips/weights/v0.1``). Of that package nothing is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tvm_flow.errors import CheckpointError
from tvm_flow.quality.metric_weights import fill, read_state

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-10
WEIGHTS = "torchvision's AlexNet or VGG16: alexnet-owt-7be5be79.pth, vgg16-397923af.pth"
Sizes = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Backbone:
    """A network's convolutions (channels in and out, kernel, stride, padding), each followed by a ReLU, by their places
    in torchvision's ``features``; where it pools, by (kernel, 2); and the places of the ReLUs that are compared.
    """

    convolutions: Mapping[int, Sizes]
    pools: Mapping[int, int]
    taps: tuple[int, ...]

    def layers(self) -> nn.Sequential:
        """All up to the last tap, so that torchvision's keys fit."""
        return nn.Sequential(*map(self._layer, range(self.taps[-1] + 1)))

    def _layer(self, place: int) -> nn.Module:
        if place in self.convolutions:
            into, out, kernel, stride, padding = self.convolutions[place]
            return nn.Conv2d(into, out, kernel, stride, padding)
        return nn.MaxPool2d(self.pools[place], 2) if place in self.pools else nn.ReLU()


def _vgg16() -> Backbone:
    widths = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
    convolutions, pools, place, into = {}, {}, 0, 3
    for width in widths:
        if width:
            convolutions[place], into = (into, width, 3, 1, 1), width
        else:
            pools[place] = 2
        place += 2 if width else 1
    return Backbone(convolutions, pools, (3, 8, 15, 22, 29))


BACKBONES = {
    "alex": Backbone(
        {0: (3, 64, 11, 4, 2), 3: (64, 192, 5, 1, 2), 6: (192, 384, 3, 1, 1), 8: (384, 256, 3, 1, 1)}
        | {10: (256, 256, 3, 1, 1)},
        {2: 3, 5: 3},
        (1, 4, 7, 9, 11),
    ),
    "vgg": _vgg16(),
}


_BY_FIRST: Mapping[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
"""Shape of the first convolution."""


@dataclass(frozen=True, eq=False)
class LPIPS:
    """``layers`` up to the last tap, and a head float32 [C] for each of ``taps``."""

    layers: nn.Sequential
    taps: tuple[int, ...]
    heads: tuple[Tensor, ...]
    files: tuple[Path, ...] = ()

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
        """``lpips`` [N] of videos [N, T, H, W, 3] in 0..1; of FP32's own ``lpips_other_seed``, too, NaN where no other
        one has the same caption.
        """
        pairs = list(zip(ours, exact, strict=True))
        found = {"lpips": torch.stack([self.distance(a, b).mean() for a, b in pairs])}
        if torch.equal(ours, exact):
            others = _next_alike(captions)
            nothing = torch.tensor(torch.nan)
            distances = [nothing if k == j else self.distance(exact[k], exact[j]).mean() for k, j in enumerate(others)]
            found["lpips_other_seed"] = torch.stack(distances)
        return found

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """[T] of frames [T, H, W, 3] in 0..1, of any size that the backbone can pool."""
        total = torch.zeros(len(a))
        for one, other, head in zip(self._seen(a), self._seen(b), self.heads, strict=True):
            total += ((one - other).square() * head[:, None, None]).sum(1).mean((1, 2))
        return total

    def _seen(self, frames: Tensor) -> list[Tensor]:
        x = (2 * frames.float() - 1 - torch.tensor(SHIFT)) / torch.tensor(SCALE)
        x, found = x.permute(0, 3, 1, 2), []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            if place in self.taps:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + EPSILON))
        return found


def load_lpips(path: Path) -> LPIPS:
    """The metric with the backbone in the file ``path``; raises CheckpointError for another file or no heads."""
    state = read_state(path, WEIGHTS)
    first = state.get("features.0.weight")
    name = None if first is None else _BY_FIRST.get(tuple(first.shape))
    if name is None:
        found = f"features.0.weight of {list(first.shape)}" if first is not None else f"keys like {sorted(state)[:3]}"
        raise CheckpointError(f"{path}: expected {WEIGHTS}, got {found}; fetch one of them")
    backbone, what = BACKBONES[name], f"torchvision's {'AlexNet' if name == 'alex' else 'VGG16'}"
    layers = backbone.layers()
    used = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
    fill(layers, used, path, what)
    heads = _heads_file(path, name)
    return LPIPS(layers, backbone.taps, _heads(heads, backbone), (path, heads))


def _heads_file(backbone: Path, name: str) -> Path:
    beside = backbone.parent / f"{name}.pth"
    if beside.exists():
        return beside
    package = importlib.util.find_spec("lpips")
    if package is None or package.origin is None:
        raise CheckpointError(
            f"{beside}: expected LPIPS' linear heads beside the backbone, or in the package lpips, got neither; "
            f"pip install lpips, or take lpips/weights/v0.1/{name}.pth out of its wheel"
        )
    return Path(package.origin).parent / "weights" / "v0.1" / f"{name}.pth"


def _heads(path: Path, backbone: Backbone) -> tuple[Tensor, ...]:
    """lin0.model.1.weight [1, C, 1, 1] and so on, of every tap."""
    what = "LPIPS' linear heads of that backbone, version 0.1"
    widths = [backbone.convolutions[tap - 1][1] for tap in backbone.taps]
    module = nn.Module()
    for tap, width in enumerate(widths):
        head = nn.Sequential(nn.Identity(), nn.Conv2d(width, 1, 1, bias=False))
        module.add_module(f"lin{tap}", nn.ModuleDict({"model": head}))
    fill(module, read_state(path, what), path, what)
    return tuple(parameter.detach().flatten() for parameter in module.parameters())


def _next_alike(captions: Sequence[str]) -> list[int]:
    """For each caption the next place, cyclically, of the same one: its own where there is no other."""
    count = len(captions)
    return [
        next(j % count for j in range(k + 1, k + count + 1) if captions[j % count] == captions[k]) for k in range(count)
    ]
