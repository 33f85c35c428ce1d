"""Reading steps.bin back: the same checks as the C runtime, for those who verify without running."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.limits import MAX_CFG_SCALE, MAX_ELEMENTS, MAX_INDEX_BYTES, MAX_STEPS
from tvm_flow.pack.contents import NOT_COMPUTED, UPDATE_FLOATS, Float32, Float64
from tvm_flow.pack.format import (
    GROUP,
    HEADER,
    MAGIC,
    STATED_BYTES,
    STATED_BYTES_AT,
    VARIANT,
    Library,
    is_safe_path,
    require_schema,
)
from tvm_flow.pack.regular import read_regular, unreadable


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
    weights_first: int
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
                f"steps.bin: section {name}: expected {count * size} bytes, got {len(section)}; pack again",
                Cause.WRONG_STEP_TABLE,
            )
        self.at += count * size + -(count * size) % 64
        return section

    def floats(self, name: str, *shape: int) -> Float32:
        return np.frombuffer(self.take(name, prod(shape), 4), "<f4").reshape(shape)


def read_index(path: Path) -> Index:
    """Parse steps.bin. Raises BundleError with its cause when it is unreadable, altered, of another schema, or lies."""
    try:
        data = read_regular(path, MAX_INDEX_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error
    _require_whole(path, data)
    fields = HEADER.unpack_from(data)
    if data[:8] != MAGIC:
        raise BundleError(
            f"{path}: expected a file that starts with {MAGIC!r}, got {data[:8]!r}; check the path",
            Cause.WRONG_STEP_TABLE,
        )
    require_schema(path, fields[1])
    if fields[2:4] != (HEADER.size, len(data)):
        raise _not_as_stated(path, Cause.WRONG_STEP_TABLE)
    return _parse(_Sections(data), fields)


def _require_whole(path: Path, data: bytes) -> None:
    """At least a header and a digest, which holds."""
    least = HEADER.size + 32
    if len(data) < least:
        raise BundleError(
            f"{path}: expected at least {least} bytes, got {len(data)}; copy the bundle again", Cause.TRUNCATED
        )
    if _ends_in_its_digest(data):
        return
    (stated,) = STATED_BYTES.unpack_from(data, STATED_BYTES_AT)
    if stated > len(data) and not _ends_in_its_digest(_with_its_size(data)):
        raise BundleError(f"{path}: expected {stated} bytes, got {len(data)}; copy the bundle again", Cause.TRUNCATED)
    raise _not_as_stated(path, Cause.CHANGED)


def _not_as_stated(path: Path, cause: Cause) -> BundleError:
    return BundleError(f"{path}: expected the size and sha256 that it states, got others; copy the bundle again", cause)


def _ends_in_its_digest(data: bytes) -> bool:
    return hashlib.sha256(data[:-32]).digest() == data[-32:]


def _with_its_size(data: bytes) -> bytes:
    """``data`` as it would be if only the size that it states had been changed, not its end cut off."""
    return data[:STATED_BYTES_AT] + STATED_BYTES.pack(len(data)) + data[STATED_BYTES_AT + STATED_BYTES.size :]


def _parse(sections: _Sections, fields: tuple[Any, ...]) -> Index:
    steps, branches, groups, step_floats, guided, outputs, ndim, tokens, channels, sampler_bytes = fields[4:14]
    shape, (value_count, weights_bytes, weights_sha256, golden_sha256, cfg) = fields[14:22], fields[22:27]
    weights_first, golden_steps = fields[27:29]
    if not (1 <= ndim <= 8 and all(size == 1 for size in shape[ndim:]) and 1 <= branches <= 2):
        raise _wrong("1 to 8 latent sizes and 1 or 2 branches", f"{ndim}, {shape} and {branches}")
    sizes = {"latent": shape, "text": (tokens, channels)}
    for name, extents in sizes.items():
        if min(extents) < 1:
            raise _wrong(f"positive sizes of {name}", extents)
        if prod(extents) > MAX_ELEMENTS:
            raise _too_large(f"{name} of at most {MAX_ELEMENTS} values", extents)
    if steps > MAX_STEPS:
        raise _too_large(f"at most {MAX_STEPS} steps", steps)
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
        weights_first=weights_first,
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
    if sections.at < sections.end:
        raise _wrong(f"{sections.at} bytes before its sha256", sections.end)
    _check(index)
    return index


def _library(sha256: bytes, variant_floats: int, size: int, path: bytes) -> Library:
    return Library(path.rstrip(b"\0").decode(errors="replace"), sha256, variant_floats, size)


def _wrong(expected: str, got: object, cause: Cause = Cause.WRONG_STEP_TABLE) -> BundleError:
    return BundleError(f"steps.bin: expected {expected}, got {got}; pack the bundle again", cause)


def _too_large(expected: str, got: object) -> BundleError:
    return _wrong(expected, got, Cause.SIZE_OVERFLOW)


def _check(index: Index) -> None:
    if index.steps < index.golden_steps != NOT_COMPUTED:
        raise _wrong(f"at most {index.steps} golden steps", index.golden_steps)
    for name in ("timesteps", "updates", "step_records", "values"):
        array: Float32 | Float64 = getattr(index, name)
        if not np.isfinite(array).all():
            raise BundleError(
                f"steps.bin: {name}: expected finite numbers, got one that is not; quantize again", Cause.NOT_FINITE
            )
    if not 0 <= index.cfg_scale <= MAX_CFG_SCALE:
        raise BundleError(
            f"steps.bin: cfg scale: expected 0 to {MAX_CFG_SCALE}, got {index.cfg_scale}; check the sampler",
            Cause.WRONG_STEP_TABLE if isfinite(index.cfg_scale) else Cause.NOT_FINITE,
        )
    channels = index.latent_shape[0]
    if index.steps < 1 or not 0 <= index.guided_channels <= channels:
        got = f"{index.steps} and {index.guided_channels}"
        raise _wrong(f"at least 1 step and at most {channels} guided channels", got)
    if index.output_channels not in (channels, 2 * channels) or (index.updates[:, 2] < 0).any():
        got = f"{index.output_channels} and {index.updates[:, 2].min()}"
        raise _wrong(f"{channels} or {2 * channels} output channels and no negative sigma", got)
    if index.weights_first > index.weights_bytes or index.weights_first % 64:
        raise _wrong(f"values of weights that begin at a multiple of 64 in {index.weights_bytes}", index.weights_first)
    _check_paths(index.libraries)
    for group, first in index.variants:
        if group >= len(index.libraries) or first + index.libraries[group].variant_floats > index.values.size:
            raise _wrong(
                f"a variant of a group below {len(index.libraries)} with floats inside {index.values.size}",
                f"group {group} from {first}",
            )


def _check_paths(libraries: tuple[Library, ...]) -> None:
    seen: set[str] = set()
    for library in libraries:
        if not is_safe_path(library.path):
            raise BundleError(
                f"steps.bin: library {library.path!r}: expected a path inside the bundle; do not use it", Cause.OUTSIDE
            )
        if library.path.casefold() in seen:
            raise _wrong("libraries with paths of their own", f"{library.path!r} twice", Cause.DUPLICATE_NAME)
        seen.add(library.path.casefold())
