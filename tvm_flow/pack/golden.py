"""Reading the golden pair of a bundle back."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from tvm_flow.errors import BundleError
from tvm_flow.pack.contents import Golden, Prompt
from tvm_flow.pack.format import GOLDEN, HEADER, MAGIC, STEPS


def read_golden(directory: Path) -> Golden:
    """The golden input and output of the bundle ``directory``.

    Raises BundleError when steps.bin or golden.bin is absent or of another size.
    """
    try:
        header = HEADER.unpack((directory / STEPS).read_bytes()[: HEADER.size])
        values = np.fromfile(directory / GOLDEN, "<f4")
    except (OSError, ValueError) as error:
        raise BundleError(f"{directory}: expected a bundle, got: {error}; run tvm-flow compile") from error
    except Exception as error:
        raise BundleError(f"{directory / STEPS}: expected a header of {HEADER.size} bytes: {error}") from error
    ndim, tokens, channels = header[10:13]
    shape = tuple(header[14 : 14 + ndim])
    sizes = [prod(shape), tokens * channels, tokens, tokens * channels, tokens, prod(shape)]
    if header[0] != MAGIC or len(values) != sum(sizes):
        raise BundleError(
            f"{directory / GOLDEN}: expected {sum(sizes)} numbers for a latent {shape} and {tokens} tokens, "
            f"got {len(values)}; compile the bundle again"
        )
    noise, cond, cond_mask, uncond, uncond_mask, latents = np.split(values, np.cumsum(sizes)[:-1])
    return Golden(
        noise.reshape(shape),
        Prompt(cond.reshape(tokens, channels), cond_mask),
        Prompt(uncond.reshape(tokens, channels), uncond_mask),
        latents.reshape(shape),
    )
