"""How a constant int8 matrix lies for the products of an instruction set.

    W [K, N]  ->  P [ceil(N / columns), K / depth, columns, depth]
    P[n / columns, k / depth, n % columns, k % depth] = W[k, n]

A block of ``columns`` output channels is what a tile of sums reads, ``depth`` codes along K what one lane of the
instruction multiplies. Columns that are missing from the last block are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tvm_flow.graph.constants import Array, register_rule


@dataclass(frozen=True)
class BlockedColumns:
    """See the module; K must be a multiple of ``depth``."""

    columns: int
    depth: int
    rule: ClassVar[str] = "pack_columns"

    @property
    def options(self) -> tuple[int, ...]:
        """See `tvm_flow.backends.base.Layout`."""
        return (self.columns, self.depth)

    def shape(self, plain: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Of the packed array of a [K, N] matrix."""
        k, n = plain
        return (-(-n // self.columns), k // self.depth, self.columns, self.depth)

    def at(self, step: Any, code: Any, column: Any) -> tuple[Any, Any, Any, Any]:
        """Where W[step * depth + code, column] lies: indices, of numbers or of expressions."""
        return (column // self.columns, step, column % self.columns, code)

    def pack(self, plain: Array) -> Array:
        """The packed array of ``plain`` [K, N]."""
        blocks, steps, columns, depth = self.shape(plain.shape)
        padded = np.zeros((plain.shape[0], blocks * columns), plain.dtype)
        padded[:, : plain.shape[1]] = plain
        return np.ascontiguousarray(padded.reshape(steps, depth, blocks, columns).transpose(2, 0, 3, 1))

    def unpack(self, packed: Array, plain: tuple[int, ...]) -> Array:
        """The [K, N] matrix that was packed."""
        blocks, steps, columns, depth = self.shape(plain)
        whole = packed.transpose(1, 3, 0, 2).reshape(steps * depth, blocks * columns)
        return np.ascontiguousarray(whole[:, : plain[1]])


def _pack_columns(w: Array, columns: int, depth: int) -> Array:
    return BlockedColumns(columns, depth).pack(w)


register_rule(BlockedColumns.rule, _pack_columns)
