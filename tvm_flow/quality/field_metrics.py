"""The metrics that the field reports, by name, with weights from a local path: `tvm-flow evaluate --metric NAME:PATH`.

A metric adds columns to a video's scores (`tvm_flow.quality.scores`); each module states its formula and source.

    lpips                         to FP32's frames at equal noise                     lpips_distance
    clipsim, clip-temp            frames beside the prompt, and beside each other     clip_scores
    flow-score                    how much moves, by RAFT                             raft_flow
    fvd                           between sets of videos                              video_features, frechet
    vqa-aesthetic, vqa-technical  DOVER: not to be had as a package (`NO_DOVER`)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from tvm_flow.errors import ConfigError
from tvm_flow.quality import clip_scores, lpips_distance, raft_flow, video_features
from tvm_flow.quality.metric_weights import files_sha256


class FieldMetric(Protocol):
    """What scores videos."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All that its scores depend on."""

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> Mapping[str, Tensor]:
        """[N] or [N, D] by name, of videos [N, T, H, W, 3] in 0..1, with FP32's of equal noise and captions."""


@dataclass(frozen=True)
class MetricKind:
    """What a metric adds to a video's scores, what its PATH is, and how that is loaded."""

    columns: tuple[str, ...]
    weights: str
    load: Callable[[Path], FieldMetric]


_CLIP = f"the folder of {clip_scores.WEIGHTS}"
KINDS = {
    "lpips": MetricKind(("lpips", "lpips_other_seed"), lpips_distance.WEIGHTS, lpips_distance.load_lpips),
    "clipsim": MetricKind(("clipsim",), _CLIP, clip_scores.load_clip),
    "clip-temp": MetricKind(("clip_temp",), _CLIP, clip_scores.load_clip),
    "flow-score": MetricKind(("flow_score",), raft_flow.WEIGHTS, raft_flow.load_raft),
    "fvd": MetricKind(("video_features",), video_features.WEIGHTS, video_features.load_video_features),
}
DOVER = ("vqa-aesthetic", "vqa-technical")
NO_DOVER = (
    "expected a metric whose model a package of PyPI holds, got DOVER's (arXiv 2211.04894), which none does: pyiqa "
    "0.1.16 has no model of videos, and the package called dover is another program; score written videos by its own "
    "repository, https://github.com/VQAssessment/DOVER"
)


@dataclass(frozen=True)
class AskedMetric:
    """A name of `KINDS`, and where its weights lie."""

    name: str
    path: Path

    def absolute(self) -> AskedMetric:
        """The same from any working folder."""
        return AskedMetric(self.name, self.path.absolute())


@dataclass(frozen=True, eq=False)
class FieldMetrics:
    """Those that were asked for; ``digest`` stands for their names and all of their files."""

    loaded: tuple[tuple[FieldMetric, frozenset[str]], ...] = ()
    digest: str = ""

    def columns(self, ours: Tensor, exact: Tensor, captions: Sequence[str]) -> dict[str, Tensor]:
        """The columns that were asked for; see `FieldMetric`."""
        found: dict[str, Tensor] = {}
        for metric, wanted in self.loaded:
            columns = metric.columns(ours, exact, captions)
            found |= {name: column for name, column in columns.items() if name in wanted}
        return found


def asked_metric(text: str) -> AskedMetric:
    """NAME:PATH; raises ConfigError for another name, no path, and what cannot be had."""
    name, _, path = text.partition(":")
    if name in DOVER:
        raise ConfigError(f"metric {name}: {NO_DOVER}")
    if name not in KINDS:
        raise ConfigError(f"metric {name!r:.60}: expected one of {', '.join((*KINDS, *DOVER))}; name one of them")
    if not path:
        raise ConfigError(
            f"metric {name}: expected {name}:PATH with {KINDS[name].weights}, got no path; nothing is downloaded: "
            "fetch it on a machine that may, and give its path"
        )
    return AskedMetric(name, Path(path).expanduser())


def load_metrics(asked: Sequence[AskedMetric]) -> FieldMetrics:
    """All of ``asked``, what two of them share once; raises ConfigError without a package, CheckpointError."""
    shared: dict[tuple[Callable[[Path], FieldMetric], Path], set[str]] = {}
    for each in asked:
        kind = KINDS[each.name]
        shared.setdefault((kind.load, each.path), set()).update(kind.columns)
    loaded = [(load(path), frozenset(columns)) for (load, path), columns in shared.items()]
    if not loaded:
        return FieldMetrics()
    named = sorted(f"{sorted(columns)} {files_sha256(metric.files)}\n" for metric, columns in loaded)
    return FieldMetrics(tuple(loaded), hashlib.sha256("".join(named).encode()).hexdigest())
