"""How an attention multiplies codes: units of codes that lie side by side along the sum, for each lane one.

    sums[lane] += sum_i left[i] right[lane][i]          a unit has ``depth`` codes, i

Both operands are activations, so both are packed by the kernel, once a task, and not once a tile.

Where codes are int16, a weight is multiplied less its zero, 0 to 255: a pair of products is at most 2 * 255 * 128, so
that vpmaddwd is exact, as is the plain product. Where they are int8, the left ones are multiplied with a ``bias``, 0
for SDOT, 128 for vpdpbusd, whose left ones are unsigned, and bias times the right ones' sums is subtracted at last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from tvm_flow.backends.cpu.statements import i32, i64
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.graph.types import Buffer, Expr

BITS = 32
"""Of a unit of several codes."""


@dataclass(frozen=True)
class CodeDot:
    """``lanes`` sums of products of units, in tiles of ``vectors``; ``intrinsic`` is LLVM's, or "" for its meaning."""

    name: str
    lanes: int
    depth: int = 1
    intrinsic: str = ""
    vectors: int = 2
    bias: int = 0

    @property
    def wide(self) -> bool:
        """Whether codes are int16."""
        return self.depth < 4

    @property
    def code(self) -> str:
        """The type of a code of the left operand."""
        return "int16" if self.wide else "int8"

    @property
    def unit(self) -> str:
        """The type of a unit."""
        return self.code if self.depth == 1 else "int32"

    @property
    def ones(self) -> Expr:
        """The unit whose codes are 1."""
        return tirx.const(sum(1 << BITS // self.depth * i for i in range(self.depth)), self.unit)

    def joined(self, codes: Sequence[Expr]) -> Expr:
        """The unit of ``depth`` int32 ``codes``."""
        if self.depth == 1:
            return codes[0].astype(self.unit)
        width = BITS // self.depth
        unit = tirx.bitwise_and(codes[0], i32((1 << width) - 1))
        for place, code in enumerate(codes[1:-1], start=1):
            part = tirx.shift_left(tirx.bitwise_and(code, i32((1 << width) - 1)), i32(width * place))
            unit = tirx.bitwise_or(unit, part)
        return tirx.bitwise_or(unit, tirx.shift_left(codes[-1], i32(BITS - width)))

    def read(self, codes: Buffer, place: Expr) -> Expr:
        """The unit at ``place`` of ``codes``."""
        if self.depth == 1:
            return codes[place]
        return tirx.reinterpret("int32", codes[tirx.Ramp(place, i64(1), self.depth)])

    def step(self, sums: Expr, left: Expr, right: Expr) -> Expr:
        """``sums`` and the products of the unit ``left`` with the vector of units ``right``."""
        row, wide = tirx.Broadcast(left, self.lanes), f"int32x{self.lanes}"
        if not self.intrinsic:
            for place in range(self.depth):
                sums = sums + self._part(row, place, self.bias > 0).astype(wide) * self._part(right, place).astype(wide)
            return sums
        row, column = (tirx.reinterpret(f"{self.code}x{self.depth * self.lanes}", units) for units in (row, right))
        if self.wide:
            return sums + tirx.call_llvm_pure_intrin(wide, self.intrinsic, row, column)
        operands = (row, column) if self.bias else (column, row)
        return tirx.call_llvm_pure_intrin(wide, self.intrinsic, sums, *operands)

    def _part(self, units: Expr, place: int, unsigned: bool = False) -> Expr:
        """A code of each of ``units``."""
        if self.depth == 1:
            return units
        width = BITS // self.depth
        if unsigned:
            mask = tirx.Broadcast(i32((1 << width) - 1), self.lanes)
            return tirx.bitwise_and(tirx.shift_right(units, tirx.Broadcast(i32(width * place), self.lanes)), mask)
        high = tirx.shift_left(units, tirx.Broadcast(i32(BITS - width * (place + 1)), self.lanes))
        return tirx.shift_right(high, tirx.Broadcast(i32(BITS - width), self.lanes))


VNNI = CodeDot("avx512vnni", 16, 4, "llvm.x86.avx512.vpdpbusd.512", vectors=4, bias=128)
SDOT = CodeDot("sdot", 4, 4, "llvm.aarch64.neon.sdot", vectors=4)
_BY_FEATURES = (
    ({"avx512bw", "avx512vl", "avx512vnni"}, VNNI),
    ({"avx512bw", "avx512vl"}, CodeDot("avx512bw", 16, 2, "llvm.x86.avx512.pmaddw.d.512", vectors=4)),
    ({"avx2", "avxvnni"}, CodeDot("avxvnni", 8, 4, "llvm.x86.avx512.vpdpbusd.256", bias=128)),
    ({"avx2"}, CodeDot("avx2", 8, 2, "llvm.x86.avx2.pmadd.wd")),
    ({"sse2"}, CodeDot("sse2", 4, 2, "llvm.x86.sse2.pmadd.wd")),
    ({"neon", "dotprod"}, SDOT),
    ({"neon"}, CodeDot("neon", 4, vectors=4)),
)
PLAIN = CodeDot("plain", 4)
"""For any target."""


def dot_of(features: frozenset[str]) -> CodeDot:
    """The widest of a target with ``features``."""
    return next((dot for needed, dot in _BY_FEATURES if needed <= features), PLAIN)


def noted_dot(packed: PackedProgram, kernel: str) -> CodeDot | None:
    """That of ``kernel``, as the CPU noted it in its offer; None where it is no attention of codes."""
    placement = packed.placements.get(kernel)
    return placement.choice if placement is not None and isinstance(placement.choice, CodeDot) else None
