"""The vendor's language, run: the part of a real vendor that is a driver, or an emulator of the vendor's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def run(text: str, inputs: list[Array]) -> Array:
    """The last value of ``text``; by float64, so that it shares no line with `rounding`."""
    values = {f"a{i}": array for i, array in enumerate(inputs)}
    for line in text.splitlines():
        word, a, b, _, result, shift, bits = line.split()
        assert (word, shift) == ("PRODUCT", "SHIFT")
        sums = np.einsum("mk,nk->mn", values[a].astype(np.float64), values[b].astype(np.float64))
        values[result] = np.clip(np.floor(sums / 2.0 ** int(bits) + 0.5), -128, 127).astype(np.int8)
    return values["y"]
