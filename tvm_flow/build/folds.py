"""The folds of ``tvm_flow_library.h``: how the runtime makes a step's constants from a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.importer.constants import Array

Floats = npt.NDArray[np.float32]
NONE = 2**64 - 1
COPY, SCALE, AFFINE, INTEGER = range(4)


@dataclass(frozen=True)
class FoldRow:
    """One row of a library's fold table; see tvm_flow_library.h for the meaning of a, b and c."""

    op: int
    count: int
    out: int
    a: int
    b: int = NONE
    c: int = NONE


def folded(row: FoldRow, record: Floats, variant: Floats, weights: memoryview) -> Array:
    """What the runtime makes of ``row``; numpy's single operations round as C's do."""

    def shared(offset: int, dtype: Any) -> Array:
        return np.frombuffer(weights, dtype, row.count, offset)

    if row.op == COPY:
        return variant[row.a : row.a + row.count]
    if row.op == SCALE:
        return np.asarray(variant[row.a] * shared(row.b, np.float32))
    if row.op == INTEGER:
        return np.asarray(np.int32(variant[row.a]) * shared(row.b, np.int32))
    total: Array = record[row.a : row.a + row.count] + shared(row.b, np.float32)
    return total if row.c == NONE else np.asarray(total * shared(row.c, np.float32))


def words(value: Array) -> Floats:
    """The bytes of ``value`` as float32 words, padded with zeros; nothing is converted."""
    raw: Any = np.ascontiguousarray(value).tobytes()
    return np.frombuffer(raw + bytes(-len(raw) % 4), np.float32)
