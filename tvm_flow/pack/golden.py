"""Reading the golden pair of a bundle back."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack.contents import Golden, Prompt
from tvm_flow.pack.format import GOLDEN, HEADER, MAGIC, STEPS, require_schema
from tvm_flow.pack.manifest import check_size, read_manifest
from tvm_flow.pack.regular import cause_of, cause_of_size, open_regular, read_regular


@dataclass(frozen=True)
class _Shapes:
    """What the header of steps.bin says of golden.bin."""

    latent: tuple[int, ...]
    tokens: int
    channels: int
    steps: int

    @property
    def sizes(self) -> list[int]:
        """Numbers in each array: noise, caption and mask, null caption and mask, latents."""
        caption = [self.tokens * self.channels, self.tokens]
        return [prod(self.latent), *caption, *caption, prod(self.latent)]


def read_golden(directory: Path) -> Golden:
    """The golden input and output of the bundle ``directory``; sizes are compared before anything long is read.

    Raises BundleError when steps.bin, golden.bin or the manifest is absent, no regular file, of another schema or of
    another size.
    """
    try:
        shapes = _read_shapes(directory / STEPS)
        data = _read_data(directory, shapes)
    except OSError as error:
        raise BundleError(
            f"{directory}: expected a bundle, got: {error}; run tvm-flow compile", cause_of(error)
        ) from error
    values = np.frombuffer(data, "<f4").copy()
    noise, cond, cond_mask, uncond, uncond_mask, latents = np.split(values, np.cumsum(shapes.sizes)[:-1])
    text = shapes.tokens, shapes.channels
    return Golden(
        noise.reshape(shapes.latent),
        Prompt(cond.reshape(text), cond_mask),
        Prompt(uncond.reshape(text), uncond_mask),
        latents.reshape(shapes.latent),
        shapes.steps,
    )


def _read_shapes(path: Path) -> _Shapes:
    with open_regular(path) as (stream, _):
        raw = stream.read(HEADER.size)
    if len(raw) < HEADER.size:
        raise BundleError(
            f"{path}: expected a header of {HEADER.size} bytes, got {len(raw)}; compile the bundle again",
            Cause.TRUNCATED,
        )
    header = HEADER.unpack(raw)
    ndim, tokens, channels = header[10:13]
    if header[0] != MAGIC or not 1 <= ndim <= 8:
        raise BundleError(
            f"{path}: expected the magic {MAGIC!r} and 1 to 8 axes, got {header[0]!r} and {ndim}; "
            "compile the bundle again",
            Cause.WRONG_STEP_TABLE,
        )
    require_schema(path, header[1])
    return _Shapes(tuple(header[14 : 14 + ndim]), tokens, channels, header[28])


def _read_data(directory: Path, shapes: _Shapes) -> bytes:
    path, count = directory / GOLDEN, sum(shapes.sizes)
    with open_regular(path) as (_, size):
        if size != 4 * count:
            raise BundleError(
                f"{path}: expected {count} numbers for a latent {shapes.latent} and {shapes.tokens} tokens, "
                f"got {size / 4:g} ({size} bytes); compile the bundle again",
                cause_of_size(4 * count, size),
            )
    entry = read_manifest(directory).files.get(GOLDEN)
    if entry is None:
        raise BundleError(
            f"{path}: expected an entry of the manifest, got none; compile the bundle again", Cause.ABSENT
        )
    check_size(path, entry)
    return read_regular(path, size)
