"""The compare command: a model in FP32 and its bundle from equal noise, as figures and as pictures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.artifact import exclusive, is_current, make_stamp, probe, write_json, write_stamp
from tvm_flow.demo.sheet import contact_sheet, to_uint8
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_manifest
from tvm_flow.pack.format import MANIFEST
from tvm_flow.pack.trust import verify_signature
from tvm_flow.pipeline.asked import require_bundle_of
from tvm_flow.pipeline.decode import Frames, check_here
from tvm_flow.pipeline.generate import Floats, noise_for, prompt_pairs
from tvm_flow.pipeline.source import Source
from tvm_flow.quality.step_latents import bundle_latents_of_steps, float_latents_of_steps, psnr_of_steps
from tvm_flow.run import Bundle

SHOWN_FRAMES, SHOWN_WIDTH = 8, 96
"""On the sheet: frames of a video, evenly spaced, and the pixels that a smaller one is enlarged to."""


@dataclass(frozen=True)
class Comparison:
    """PSNR in dB of the bundle against FP32 over all prompts: latents after each step, and frames at the end.

    ``frames`` and ``sheet`` are None where nothing decodes.
    """

    timesteps: tuple[float, ...]
    latents: tuple[float, ...]
    frames: float | None
    sheet: Path | None

    def table(self) -> str:
        """One line for each step."""
        rows = enumerate(zip(self.timesteps, self.latents, strict=True), start=1)
        return "\n".join(["step       t  latents, dB", *(f"{k:>4} {t:>7.1f} {db:>12.2f}" for k, (t, db) in rows)])


def compare_stage(source: Source, frames: Frames, prompts: Sequence[str], seed: int, output: Path) -> Comparison:
    """``prompts`` by ``source`` in FP32 and by the bundle of ``frames``, the k-th from the noise of ``seed`` + k.

    Writes comparison.json and, where something decodes, sheet.png into the folder ``output``; nothing is done when they
    are current. Raises SignatureError when the bundle is not signed as ``frames.trust`` asks, ConfigError when it is of
    another model or sampler, PromptError for an unknown prompt, BundleError when it is damaged or does not repeat its
    golden output here.
    """
    bundle = frames.bundle
    if frames.trust is not None:
        verify_signature(bundle, frames.trust)
    require_bundle_of(bundle, source)
    tokens, mask = source.embed(list(prompts))
    words = hashlib.sha256(tokens.numpy().tobytes() + mask.numpy().tobytes()).hexdigest()
    options = {"prompts": list(prompts), "seed": seed, "words": words, "autoencoder": str(frames.autoencoder)}
    figures, sheet = output / "comparison.json", output / "sheet.png"
    with exclusive(figures):
        stamp = make_stamp({"bundle": bundle / MANIFEST}, options, __name__)
        wanted = [figures, sheet] if frames.possible else [figures]
        if not all(is_current(path, stamp) for path in wanted):
            probe(figures)
            calls = check_here(frames)
            exact, ours = _trajectories(source, frames, prompts, seed)
            found = {"timesteps": list(_timesteps(source, ours)), "latents_psnr_db": psnr_of_steps(exact, ours)}
            if frames.possible:
                found["frames_psnr_db"] = [_show(sheet, frames, prompts, (exact[:, -1], ours[:, -1]), calls)]
                write_stamp(sheet, stamp)
            write_json(figures, {key: [_finite(v) for v in values] for key, values in found.items()} | options)
            write_stamp(figures, stamp)
    return _read(figures, sheet if frames.possible else None)


def _trajectories(source: Source, frames: Frames, prompts: Sequence[str], seed: int) -> tuple[Floats, Floats]:
    """float32 [N, steps, C, T, H, W] of both, of the steps that the bundle has."""
    noise, steps = noise_for(source.latent, range(seed, seed + len(prompts))), read_manifest(frames.bundle).steps
    pairs, ours, exact = prompt_pairs(frames.bundle, prompts, source.embed), [], []
    with (
        Bundle.open(frames.bundle, workers=frames.workers, unchecked=frames.unchecked, trust=frames.trust) as opened,
        tqdm(total=steps * len(prompts), desc="bundle", unit="step") as bar,
    ):
        for k, pair in enumerate(pairs):
            ours.append(bundle_latents_of_steps(opened, pair, noise[k], seed + k, bar.update))
    with tqdm(total=source.sampler.steps * len(prompts), desc="float reference", unit="step") as bar:
        for k, prompt in enumerate(prompts):
            tokens, mask = source.embed([prompt])
            whole = float_latents_of_steps(source.model, source.sampler, (tokens, mask), noise[k], seed + k, bar.update)
            exact.append(whole[:steps])
    return np.stack(exact), np.stack(ours)


def _timesteps(source: Source, ours: Floats) -> list[float]:
    return [float(t) for t in source.sampler.timesteps()[: ours.shape[1]]]


def _show(
    sheet: Path, frames: Frames, prompts: Sequence[str], latents: tuple[Floats, Floats], calls: int | None
) -> float:
    """Write the sheet; the frames' PSNR over all prompts. Both are decoded by the same decoder."""
    exact, ours = ([to_uint8(v) for v in frames.videos(torch.from_numpy(z), calls)] for z in latents)
    shown = np.unique(np.linspace(0, len(exact[0]) - 1, SHOWN_FRAMES).round().astype(int))
    rows = {name: _stack(videos)[:, shown] for name, videos in (("FP32", exact), ("int8", ours))}
    contact_sheet(sheet, prompts, rows, max(1, SHOWN_WIDTH // exact[0].shape[2]))
    return psnr_db(np.stack(exact), np.stack(ours))


def _stack(videos: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(videos))


def _finite(decibels: float) -> float | None:
    """JSON knows no infinity, which equal arrays have."""
    return decibels if math.isfinite(decibels) else None


def _read(figures: Path, sheet: Path | None) -> Comparison:
    found = json.loads(figures.read_text())
    values = {
        key: tuple(math.inf if v is None else float(v) for v in found.get(key, ()))
        for key in ("timesteps", "latents_psnr_db", "frames_psnr_db")
    }
    frames = values["frames_psnr_db"][0] if values["frames_psnr_db"] else None
    return Comparison(values["timesteps"], values["latents_psnr_db"], frames, sheet)
