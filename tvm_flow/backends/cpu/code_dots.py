"""How an attention multiplies codes: units of codes that lie side by side along the sum, for each lane one.

    sums[lane] += sum_i left[i] right[lane][i]          a unit has ``depth`` codes, i

Both operands are activations, so both are packed by the kernel, widened to int16 where the instruction wants that: once
a task, and not once a tile. Codes are -128 to 127, a weight less its zero up to 255: a pair of products is at most
2 * 255 * 128, so that vpmaddwd is exact, as is the plain product of int16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from tvm_flow.backends.cpu.statements import i32, i64
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.graph.types import Buffer, Expr

CODE = "int16"


@dataclass(frozen=True)
class CodeDot:
    """``lanes`` sums of products of units; ``intrinsic`` is LLVM's, or "" for a plain product."""

    name: str
    lanes: int
    depth: int = 1
    intrinsic: str = ""

    @property
    def unit(self) -> str:
        """The type of a unit."""
        return "int32" if self.depth == 2 else CODE

    def joined(self, codes: Sequence[Expr]) -> Expr:
        """The unit of ``depth`` int32 ``codes``."""
        if self.depth == 1:
            return codes[0].astype(CODE)
        low, high = codes
        return tirx.bitwise_or(tirx.bitwise_and(low, i32(0xFFFF)), tirx.shift_left(high, i32(16)))

    def read(self, codes: Buffer, place: Expr) -> Expr:
        """The unit at ``place`` of ``codes``, int16."""
        if self.depth == 1:
            return codes[place]
        return tirx.reinterpret("int32", codes[tirx.Ramp(place, i64(1), self.depth)])

    def step(self, sums: Expr, left: Expr, right: Expr) -> Expr:
        """``sums`` and the products of the unit ``left`` with the vector of units ``right``."""
        if self.depth == 1:
            wide = f"int32x{self.lanes}"
            return sums + tirx.Broadcast(left.astype("int32"), self.lanes) * right.astype(wide)
        row, column = (
            tirx.reinterpret(f"{CODE}x{2 * self.lanes}", units) for units in (tirx.Broadcast(left, self.lanes), right)
        )
        return sums + tirx.call_llvm_pure_intrin(f"int32x{self.lanes}", self.intrinsic, row, column)


_BY_FEATURES = (
    ({"avx512bw", "avx512vl"}, CodeDot("avx512bw", 16, 2, "llvm.x86.avx512.pmaddw.d.512")),
    ({"avx2"}, CodeDot("avx2", 8, 2, "llvm.x86.avx2.pmadd.wd")),
    ({"sse2"}, CodeDot("sse2", 4, 2, "llvm.x86.sse2.pmadd.wd")),
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
