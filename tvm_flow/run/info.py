"""What an open bundle holds."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_flow.run import native


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle holds; the bytes of arena, step, prompt and weights are the runtime's memory."""

    latent_shape: tuple[int, ...]
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
    dts: tuple[float, ...]


def describe(runtime: ctypes.CDLL, handle: ctypes.c_void_p) -> BundleInfo:
    """Ask the runtime what it has opened."""
    out = native.CDescription()
    runtime.tvm_flow_describe(handle, ctypes.byref(out))
    same = {
        name: getattr(out, name)
        for name in BundleInfo.__dataclass_fields__
        if name not in ("latent_shape", "sampler", "timesteps", "dts")
    }
    return BundleInfo(
        latent_shape=tuple(out.latent_shape[: out.latent_ndim]),
        sampler=json.loads(out.sampler_json),
        timesteps=tuple(out.timesteps[: out.steps]),
        dts=tuple(out.dts[: out.steps]),
        **same,
    )
