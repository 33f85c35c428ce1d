"""Reading steps.bin back: the same checks as the C runtime, for those who verify without running."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.errors import BundleError
from tvm_flow.limits import MAX_CFG_SCALE, MAX_INDEX_BYTES
from tvm_flow.pack.contents import NOT_COMPUTED, UPDATE_FLOATS, Float32, Float64
from tvm_flow.pack.format import GROUP, HEADER, MAGIC, SCHEMA, VARIANT, Library
from tvm_flow.pack.regular import read_regular


@dataclass(frozen=True)
class Index:
    """What steps.bin says; see ``format`` for each field. ``variants`` are (group, first value)."""

    steps: int
    branches: int
    guided_channels: int
    output_channels: int
    cfg_scale: float
    latent_shape: tuple[int, ...]
    text_tokens: int
    text_channels: int
    weights_bytes: int
    weights_sha256: bytes
    golden_sha256: bytes
    golden_steps: int
    sampler: str
    libraries: tuple[Library, ...]
    timesteps: Float32
    updates: Float64
    step_records: Float32
    variants: tuple[tuple[int, int], ...]
    values: Float32

    @property
    def golden_bytes(self) -> int:
        """How long golden.bin is."""
        return 8 * (prod(self.latent_shape) + self.text_tokens * (self.text_channels + 1))


class _Sections:
    """A cursor over the padded sections that refuses to pass the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.end = data, HEADER.size, len(data) - 32

    def take(self, name: str, count: int, size: int) -> bytes:
        section = self.data[self.at : min(self.at + count * size, self.end)]
        if len(section) != count * size:
            raise BundleError(
                f"steps.bin: section {name}: expected {count * size} bytes, got {len(section)}; pack again"
            )
        self.at += count * size + -(count * size) % 64
        return section

    def floats(self, name: str, *shape: int) -> Float32:
        return np.frombuffer(self.take(name, prod(shape), 4), "<f4").reshape(shape)


def read_index(path: Path) -> Index:
    """Parse steps.bin. Raises BundleError when it is unreadable, too long, altered or of another schema."""
    try:
        data = read_regular(path, MAX_INDEX_BYTES)
    except OSError as error:
        raise BundleError(f"{path}: expected a readable file, got: {error}; copy the bundle again") from error
    if len(data) < HEADER.size + 32 or data[:8] != MAGIC:
        raise BundleError(f"{path}: expected a file that starts with {MAGIC!r}, got {data[:8]!r}; check the path")
    fields = HEADER.unpack_from(data)
    if fields[1] != SCHEMA:
        raise BundleError(f"{path}: expected schema {SCHEMA}, got {fields[1]}; pack with this version of tvm-flow")
    if fields[2:4] != (HEADER.size, len(data)) or hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise BundleError(f"{path}: expected the size and sha256 that it states, got others; copy the bundle again")
    return _parse(_Sections(data), fields)


def _parse(sections: _Sections, fields: tuple[Any, ...]) -> Index:
    steps, branches, groups, step_floats, guided, outputs, ndim, tokens, channels, sampler_bytes = fields[4:14]
    shape, (value_count, weights_bytes, weights_sha256, golden_sha256, cfg, golden_steps) = (
        fields[14:22],
        fields[22:28],
    )
    if not (1 <= ndim <= 8 and all(size == 1 for size in shape[ndim:]) and 1 <= branches <= 2):
        raise BundleError("steps.bin: expected 1 to 8 latent sizes and 1 or 2 branches; pack the bundle again")
    sampler = sections.take("sampler", sampler_bytes, 1).decode(errors="replace")
    rows = GROUP.iter_unpack(sections.take("groups", groups, GROUP.size))
    index = Index(
        steps=steps,
        branches=branches,
        guided_channels=guided,
        output_channels=outputs,
        cfg_scale=float(cfg),
        latent_shape=tuple(shape[:ndim]),
        text_tokens=tokens,
        text_channels=channels,
        weights_bytes=weights_bytes,
        weights_sha256=weights_sha256,
        golden_sha256=golden_sha256,
        golden_steps=golden_steps,
        sampler=sampler,
        libraries=tuple(_library(*row) for row in rows),
        timesteps=sections.floats("t", steps),
        updates=np.frombuffer(sections.take("updates", steps * UPDATE_FLOATS, 8), "<f8").reshape(steps, UPDATE_FLOATS),
        step_records=sections.floats("records", steps, step_floats),
        variants=tuple(VARIANT.iter_unpack(sections.take("variants", steps * branches, VARIANT.size))),
        values=sections.floats("values", value_count),
    )
    _check(index)
    return index


def _library(sha256: bytes, variant_floats: int, path: bytes) -> Library:
    return Library(path.rstrip(b"\0").decode(errors="replace"), sha256, variant_floats)


def _check(index: Index) -> None:
    if index.steps < index.golden_steps != NOT_COMPUTED:
        raise BundleError(
            f"steps.bin: expected at most {index.steps} golden steps, got {index.golden_steps}; pack the bundle again"
        )
    for name in ("timesteps", "updates", "step_records", "values"):
        array: Float32 | Float64 = getattr(index, name)
        if not np.isfinite(array).all():
            raise BundleError(f"steps.bin: {name}: expected finite numbers, got one that is not; quantize again")
    if not 0 <= index.cfg_scale <= MAX_CFG_SCALE:
        raise BundleError(
            f"steps.bin: cfg scale: expected 0 to {MAX_CFG_SCALE}, got {index.cfg_scale}; check the sampler"
        )
    if index.steps < 1 or not 0 <= index.guided_channels <= index.latent_shape[0]:
        raise BundleError(
            f"steps.bin: expected at least 1 step and at most {index.latent_shape[0]} guided channels, got "
            f"{index.steps} and {index.guided_channels}; pack the bundle again"
        )
    channels = index.latent_shape[0]
    if index.output_channels not in (channels, 2 * channels) or (index.updates[:, 2] < 0).any():
        raise BundleError(
            f"steps.bin: expected {channels} or {2 * channels} output channels and no negative sigma, got "
            f"{index.output_channels} and {index.updates[:, 2].min()}; pack the bundle again"
        )
    for group, first in index.variants:
        if group >= len(index.libraries) or first + index.libraries[group].variant_floats > index.values.size:
            raise BundleError(
                f"steps.bin: a variant: expected a group below {len(index.libraries)} and floats inside "
                f"{index.values.size}, got group {group} from {first}; pack the bundle again"
            )
