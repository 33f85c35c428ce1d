"""What FVD compares: features of whole videos by I3D, a network that tells 400 human actions apart.

The file is StyleGAN-V's ``i3d_torchscript.pt`` (arXiv 2112.14683; its repository, and
https://github.com/universome/fvd-comparison, say where it lies), the field's own copy of DeepMind's I3D on
Kinetics-400: a TorchScript module that takes videos [N, 3, T, H, W] in 0..255 with ``rescale``, ``resize`` (to 224 by
224, bilinear) and ``return_features``, and gives 400 features, before the softmax. It needs `LEAST_FRAMES` frames.

**A TorchScript file is a program.** It runs in TorchScript's interpreter, which calls no Python but any operator of
torch: take it from where its authors put it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.quality.metric_weights import require_file

WEIGHTS = "StyleGAN-V's i3d_torchscript.pt (https://github.com/universome/fvd-comparison says where it lies)"
LEAST_FRAMES = 10
"""I3D halves time three times and then averages over two."""


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """A TorchScript module as `WEIGHTS` is called."""

    module: Any
    files: tuple[Path, ...] = ()

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:  # noqa: ARG002
        """``video_features`` [N, D] of videos [N, T, H, W, 3] in 0..1; raises ConfigError when it takes none of these.

        Videos go in one at a time, so that memory does not grow with their number.
        """
        try:
            found = [self._of(video.float()) for video in ours]
        except RuntimeError as error:
            what = str(error).strip().splitlines()[-1]
            raise ConfigError(
                f"{self.files[0]}: expected a module that takes videos of {list(ours.shape[1:])}, got: {what:.160}; "
                f"I3D needs {LEAST_FRAMES} frames"
            ) from error
        return {"video_features": torch.stack(found)}

    def _of(self, video: Tensor) -> Tensor:
        pixels = video.permute(3, 0, 1, 2)[None] * 255
        found: Tensor = self.module(pixels, rescale=True, resize=True, return_features=True)
        return found.float().reshape(-1)


def load_video_features(path: Path) -> VideoFeatures:
    """The module in ``path``; raises CheckpointError for what is no TorchScript file."""
    require_file(path, WEIGHTS)
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # a damaged archive fails in whatever its next word asks for
        what = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: expected {WEIGHTS}, got: {what:.200}; fetch it again") from error
    return VideoFeatures(module, (path,))
