"""The vector registers of a target: how many float32 one holds, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.backends.packed import PackedProgram


@dataclass(frozen=True)
class Registers:
    """``count`` registers of ``lanes`` float32."""

    count: int
    lanes: int

    def columns(self, rows: int) -> int:
        """Vectors of a tile of ``rows`` whose sums stay in registers beside what they are made of."""
        return max(1, (self.count - 1) // (rows + 1))


_BY_FEATURE = (("avx512vl", Registers(32, 16)), ("avx", Registers(16, 8)), ("neon", Registers(32, 4)))
PLAIN = Registers(16, 4)
"""Of a target that nothing is known of."""


def registers_of(features: frozenset[str]) -> Registers:
    """Those of a target with ``features``."""
    return next((found for feature, found in _BY_FEATURE if feature in features), PLAIN)


def noted_registers(packed: PackedProgram, kernel: str) -> Registers | None:
    """Those of the target that ``packed`` was placed for, as the CPU noted them in its offer; None where it did not."""
    placement = packed.placements.get(kernel)
    return placement.choice if placement is not None and isinstance(placement.choice, Registers) else None
