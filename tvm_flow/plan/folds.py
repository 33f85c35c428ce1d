"""The folds of ``tvm_flow_library.h``: how the runtime makes a step's constants from a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tvm_flow.graph.constants import Array

Floats = npt.NDArray[np.float32]
NONE = 2**64 - 1
COPY, SCALE, AFFINE, INTEGER, LESS, FLIP = range(6)


@dataclass(frozen=True)
class FoldRow:
    """One row of a library's fold table; see tvm_flow_library.h for the meaning of a, b and c."""

    op: int
    count: int
    out: int
    a: int
    b: int = NONE
    c: int = NONE


def folded(row: FoldRow, records: Floats, variants: Floats, weights: memoryview, before: Array | None = None) -> Array:
    """What the runtime makes of ``row`` for every variant, [V, row.count]; numpy's single operations round as C's do.

    ``records`` [V, R] and ``variants`` [V, S] are the variants' step records and own numbers; ``before`` is what LESS
    subtracts from, what the rows before it made of the same place.
    """

    def shared(offset: int, dtype: npt.DTypeLike) -> Array:
        return np.frombuffer(weights, dtype, row.count, offset)

    if row.op == COPY:
        return np.ascontiguousarray(variants[:, row.a : row.a + row.count])
    if row.op == FLIP:
        words = np.ascontiguousarray(variants[:, row.a : row.a + row.count]).view(np.uint32)
        return (words ^ np.uint32(row.b)).view(np.float32)
    if row.op == LESS:
        assert before is not None
        return np.asarray(before - variants[:, row.a : row.a + row.count])
    scalar = variants[:, row.a : row.a + 1]
    if row.op == SCALE:
        return np.asarray(scalar * shared(row.b, np.float32))
    if row.op == INTEGER:
        return np.asarray(scalar.astype(np.int32) * shared(row.b, np.int32))
    total: Array = records[:, row.a : row.a + row.count] + shared(row.b, np.float32)
    return total if row.c == NONE else np.asarray(total * shared(row.c, np.float32))


def rows_of_words(values: Sequence[Array]) -> Floats:
    """The bytes of every one of equally large ``values`` as a row of float32 words, padded; nothing is converted."""
    raw = np.stack([np.ascontiguousarray(value).reshape(-1).view(np.uint8) for value in values])
    padded = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 4)))
    return np.ascontiguousarray(padded).view(np.float32)


_EXPONENTS = 256
_EXPONENT_AT = 23
"""Of a float32: the first bit of its exponent, whose 8 bits are all set in what is no finite number."""


def flips(words: Floats) -> list[tuple[int, int, int]]:
    """(first column, columns, bits) of neighbours in ``words`` [V, W] that are finite floats with those bits flipped.

    Some exponent does not occur in few enough columns; the bits are what turns all others into no other than that of
    infinity. Raises ValueError where a single column has every exponent.
    """
    exponents = (words.view(np.uint32) >> _EXPONENT_AT) & (_EXPONENTS - 1)
    found, first, seen = [], 0, np.zeros(_EXPONENTS, np.bool_)
    for column in range(exponents.shape[1]):
        more = seen.copy()
        more[exponents[:, column]] = True
        if more.all():
            found.append((first, column - first, _absent(seen)))
            first, more = column, np.zeros(_EXPONENTS, np.bool_)
            more[exponents[:, column]] = True
        seen = more
    return [*found, (first, exponents.shape[1] - first, _absent(seen))]


def _absent(seen: npt.NDArray[np.bool_]) -> int:
    """Bits that turn an exponent that is not ``seen`` into that of infinity."""
    if seen.all():
        raise ValueError("every exponent occurs in one word")
    return int((int(np.argmin(seen)) ^ (_EXPONENTS - 1)) << _EXPONENT_AT)
