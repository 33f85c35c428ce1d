"""What an open bundle holds."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_flow.run import native

if TYPE_CHECKING:  # the sampler's package waits for torch, which running does not need
    from tvm_flow.sampler import SamplerConfig


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle holds; the bytes of arena, step, prompt and weights are the runtime's memory.

    ``sampler`` is the configuration that its tables were made for; ``updates`` are [steps][5], see
    `tvm_flow.sampler.update`.
    """

    latent_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    text_tokens: int
    text_channels: int
    steps: int
    branches: int
    groups: int
    guided_channels: int
    cfg_scale: float
    threads: int
    arena_bytes: int
    step_bytes: int
    prompt_bytes: int
    weights_bytes: int
    sampler: Mapping[str, Any]
    timesteps: tuple[float, ...]
    updates: tuple[tuple[float, ...], ...]


OTHER_SAMPLER = "run it as it is, or calibrate, quantize, export and compile for the other sampler"


def check_sampler(directory: Path, have: Mapping[str, Any], wanted: SamplerConfig | None) -> None:
    """Raises ConfigError showing both when a bundle made for the sampler ``have`` is wanted for another."""
    if wanted is not None:
        from tvm_flow.sampler import require_same_sampler

        require_same_sampler(str(directory), have, wanted.to_dict(), OTHER_SAMPLER)


def describe(runtime: ctypes.CDLL, handle: ctypes.c_void_p) -> BundleInfo:
    """Ask the runtime what it has opened."""
    out = native.CDescription()
    runtime.tvm_flow_describe_sized(handle, ctypes.byref(out), ctypes.sizeof(out))
    same = {
        name: getattr(out, name)
        for name in BundleInfo.__dataclass_fields__
        if name not in ("latent_shape", "output_shape", "sampler", "timesteps", "updates")
    }
    latent = tuple(out.latent_shape[: out.latent_ndim])
    return BundleInfo(
        latent_shape=latent,
        output_shape=(latent[0] * (out.output_floats // out.latent_floats), *latent[1:]),
        sampler=json.loads(out.sampler_json),
        timesteps=tuple(out.timesteps[: out.steps]),
        updates=tuple(tuple(row) for row in out.updates[: out.steps]),
        **same,
    )
