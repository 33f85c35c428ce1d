"""Reading the golden pair of a bundle back."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from tvm_flow.errors import BundleError
from tvm_flow.pack.contents import Golden, Prompt
from tvm_flow.pack.format import GOLDEN, HEADER, MAGIC, SCHEMA, STEPS


def read_golden(directory: Path) -> Golden:
    """The golden input and output of the bundle ``directory``.

    Raises BundleError when steps.bin or golden.bin is absent, of another schema or of another size.
    """
    try:
        raw = (directory / STEPS).read_bytes()[: HEADER.size]
        data = (directory / GOLDEN).read_bytes()
    except OSError as error:
        raise BundleError(f"{directory}: expected a bundle, got: {error}; run tvm-flow compile") from error
    if len(raw) < HEADER.size:
        raise BundleError(
            f"{directory / STEPS}: expected a header of {HEADER.size} bytes, got {len(raw)}; compile the bundle again"
        )
    header = HEADER.unpack(raw)
    ndim, tokens, channels = header[10:13]
    if header[0] != MAGIC or not 1 <= ndim <= 8:
        raise BundleError(
            f"{directory / STEPS}: expected the magic {MAGIC!r} and 1 to 8 axes, got {header[0]!r} and {ndim}; "
            "compile the bundle again"
        )
    if header[1] != SCHEMA:
        raise BundleError(
            f"{directory / STEPS}: expected schema {SCHEMA}, got {header[1]}; compile the bundle with this version"
        )
    shape = tuple(header[14 : 14 + ndim])
    sizes = [prod(shape), tokens * channels, tokens, tokens * channels, tokens, prod(shape)]
    if len(data) != 4 * sum(sizes):
        raise BundleError(
            f"{directory / GOLDEN}: expected {sum(sizes)} numbers for a latent {shape} and {tokens} tokens, "
            f"got {len(data) / 4:g}; compile the bundle again"
        )
    values = np.frombuffer(data, "<f4").copy()
    noise, cond, cond_mask, uncond, uncond_mask, latents = np.split(values, np.cumsum(sizes)[:-1])
    return Golden(
        noise.reshape(shape),
        Prompt(cond.reshape(tokens, channels), cond_mask),
        Prompt(uncond.reshape(tokens, channels), uncond_mask),
        latents.reshape(shape),
        header[27],
    )
