"""Functions as TABLE of 16 bits holds them: 513 entries, between which it draws lines.

Entry i stands for the code 128 (i - 256). An entry is at most 32767, which stands for 1 in the tables of functions
whose greatest value is 1: `ONE` is that with the 7 bits that TABLE adds. The lines' errors, from h^2 / 8 times the
second derivative:

    exp of [-16, 0], h = 1/16          4.9e-4 of the value
    1 / y of [1, 2), h = 1/512         9.5e-7
    1 / sqrt(y) of [1, 4), h = 1/128   5.7e-6
    GELU of [-16, 16), h = 1/16        3.9e-4

and rounding an entry costs 1.5e-5 of `ONE`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.numerics.rescale import TABLE_ENTRIES

Array = npt.NDArray[Any]
UNIT = 2.0**-11
"""Of the 16-bit codes before exp, and before and after GELU: [-16, 16)."""
ONE = 32767 * 128


def _codes() -> Array:
    return (np.arange(TABLE_ENTRIES) - TABLE_ENTRIES // 2) * 128.0


def _rounded(values: Array) -> Array:
    table: Array = np.clip(np.rint(values), -(1 << 15), (1 << 15) - 1).astype(np.int16)
    return table


def exp_table() -> Array:
    """exp of codes of `UNIT` up to 0; 0 at the lowest code, where whatever is less saturates."""
    values = np.exp(np.minimum(_codes() * UNIT, 0.0)) * 32767
    values[0] = 0
    return _rounded(values)


def reciprocal_table() -> Array:
    """1 / y, y = (code + 3 2^15) / 2^16 in [1, 2)."""
    return _rounded(32767 / ((_codes() + 3 * (1 << 15)) / (1 << 16)))


def root_table() -> Array:
    """1 / sqrt(y), y = (code + 2^15) / 2^14 in [1, 4); 1 below."""
    return _rounded(32767 / np.sqrt(np.maximum((_codes() + (1 << 15)) / (1 << 14), 1.0)))


def gelu(x: Array) -> Array:
    """GELU, as this project approximates it by tanh; float64."""
    found: Array = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    return found


def gelu_table() -> Array:
    """`gelu` in `UNIT`."""
    return _rounded(gelu(_codes() * UNIT) / UNIT)
