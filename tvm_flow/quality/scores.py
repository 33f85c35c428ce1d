"""What is measured of one video: how far it is from FP32's at equal noise, and how good it is by itself.

latent_psnr_db    of the latent to FP32's; the peak is the range of FP32's
latent_cosine     of the two latents as vectors
frames_psnr_db    of the frames, where something decodes; the peak is 1
flow              mean length of the optical flow, pixels a frame; flow_error: its distance to FP32's flow
warp_error        of each frame to the one before moved by the flow; temporal consistency, lower is better
class, colour, motion, all    the judge's verdicts, 0 or 1, in the demo's domain
confidence        the probability that the judge gives to the caption's garment: a score that does not saturate

With weights from a local path, what `tvm_flow.quality.field_metrics` adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tvm_flow.demo.captions import parse_caption
from tvm_flow.quality.field_metrics import FieldMetrics
from tvm_flow.quality.judge import Judge
from tvm_flow.quality.motion import flow_error, flow_score, optical_flow, warp_error

Scores = dict[str, float | list[float]]
CAP_DB = 160.0
"""What is reported for equal latents, whose PSNR is infinite and no JSON."""


@dataclass(frozen=True)
class Viewer:
    """How latents become frames, who judges them, and what else scores frames; each may be missing."""

    decode: Callable[[Tensor], Tensor] | None = None
    judge: Judge | None = None
    metrics: FieldMetrics = field(default_factory=FieldMetrics)

    @torch.no_grad()
    def scores(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> list[Scores]:
        """One for each of N latents [N, C, T, H, W], ``exact`` those of FP32; what is NaN of a video is left out."""
        columns = {
            "latent_psnr_db": psnr_to(ours, exact),
            "latent_cosine": F.cosine_similarity(ours.flatten(1).double(), exact.flatten(1).double()),
        }
        if self.decode is not None:
            columns |= self._of_frames(self.decode(ours), self.decode(exact), captions)
        return [
            {name: column[k].tolist() for name, column in columns.items() if not bool(column[k].isnan().any())}
            for k in range(len(ours))
        ]

    def _of_frames(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
        flow = optical_flow(ours)
        columns = self.metrics.columns(ours, exact, captions) | {
            "frames_psnr_db": _psnr(ours, exact, torch.ones(len(ours))),
            "flow": flow_score(flow),
            "flow_error": flow_error(flow, optical_flow(exact)),
            "warp_error": warp_error(ours, flow),
        }
        return columns if self.judge is None else columns | judged(self.judge, ours, captions)


def judged(judge: Judge, videos: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
    """The judge's columns, float [N]; raises PromptError for a caption outside the demo's language."""
    scenes = [parse_caption(caption) for caption in captions]
    seen, wanted = judge.verdict(videos), torch.tensor([scene.garment for scene in scenes])
    grey = videos.float().amax(-1)
    logits = judge(grey.flatten(0, 1)).log_softmax(-1).unflatten(0, grey.shape[:2]).mean(1)
    right = {
        "class": seen.garment == wanted,
        "colour": seen.colour == torch.tensor([scene.colour for scene in scenes]),
        "motion": seen.direction == torch.tensor([scene.direction for scene in scenes]),
    }
    right["all"] = right["class"] & right["colour"] & right["motion"]
    confidence = logits.softmax(-1).gather(1, wanted[:, None])[:, 0]
    return {name: hits.float() for name, hits in right.items()} | {"confidence": confidence}


def psnr_to(ours: Tensor, exact: Tensor) -> Tensor:
    """dB [N] of each of N latents; the peak is the range of ``exact``."""
    return _psnr(ours, exact, exact.flatten(1).amax(1) - exact.flatten(1).amin(1))


def _psnr(ours: Tensor, exact: Tensor, peak: Tensor) -> Tensor:
    noise = (ours.double() - exact.double()).flatten(1).square().mean(1)
    return (10 * torch.log10(peak.double() ** 2 / noise)).clamp(max=CAP_DB)
