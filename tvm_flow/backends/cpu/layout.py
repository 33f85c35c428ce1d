"""How a constant int8 matrix lies for the products of an instruction set.

    W [K, N]  ->  P [ceil(N / columns), K / depth, columns, depth]
    P[n / columns, k / depth, n % columns, k % depth] = W[k, n]

A block of ``columns`` output channels is what a tile of sums reads, ``depth`` codes along K what one lane of the
instruction multiplies. Columns that are missing from the last block are zero.

Codes of 4 bits lie two in a byte, those of a block's first half of columns below those of its second half:

    Q[b, s, c, d] = P[b, s, c, d] & 15  |  P[b, s, columns / 2 + c, d] << 4
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


@dataclass(frozen=True)
class NibbleColumns:
    """The same for codes from -8 to 7; ``columns`` is even."""

    columns: int
    depth: int
    rule: ClassVar[str] = "pack_nibbles"

    @property
    def blocked(self) -> BlockedColumns:
        """Of the codes, each in a byte."""
        return BlockedColumns(self.columns, self.depth)

    @property
    def options(self) -> tuple[int, ...]:
        """See `tvm_flow.backends.base.Layout`."""
        return (self.columns, self.depth)

    def shape(self, plain: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Of the packed array of a [K, N] matrix."""
        blocks, steps, columns, depth = self.blocked.shape(plain)
        return (blocks, steps, columns // 2, depth)

    def at(self, step: Any, code: Any, column: Any) -> tuple[Any, Any, Any, Any]:
        """Where a code lies once a kernel has unpacked its block: as in `BlockedColumns`."""
        return self.blocked.at(step, code, column)

    def pack(self, plain: Array) -> Array:
        """The packed array of ``plain`` [K, N]."""
        low, high = np.split(self.blocked.pack(plain).view(np.uint8), 2, axis=2)
        return np.ascontiguousarray(low & 15 | high << 4).view(np.int8)

    def unpack(self, packed: Array, plain: tuple[int, ...]) -> Array:
        """The [K, N] matrix that was packed."""
        signed = packed.view(np.int8)
        halves = [(signed << 4) >> 4, signed >> 4]  # arithmetic shifts of int8 carry the sign
        return self.blocked.unpack(np.concatenate(halves, axis=2), plain)


def _pack_columns(w: Array, columns: int, depth: int) -> Array:
    return BlockedColumns(columns, depth).pack(w)


def _pack_nibbles(w: Array, columns: int, depth: int) -> Array:
    return NibbleColumns(columns, depth).pack(w)


register_rule(BlockedColumns.rule, _pack_columns)
register_rule(NibbleColumns.rule, _pack_nibbles)
