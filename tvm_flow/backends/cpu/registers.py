"""The vector registers of a target: how many float32 one holds, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.backends.packed import PackedProgram


@dataclass(frozen=True)
class Registers:
    """``count`` registers of ``lanes`` float32."""

    count: int
    lanes: int

    def tile(self, rows: int, vectors: int) -> tuple[int, int]:
        """Rows and vectors of the tile of sums for so many of both: what divides them, and stays in registers beside a
        vector of the second operand for each vector and one of the first; the most sums, of equals the fewest loads.
        """
        fitting = [
            (high, wide)
            for high in range(1, min(rows, self.count) + 1)
            for wide in range(1, min(vectors, self.count) + 1)
            if rows % high == 0 and vectors % wide == 0 and (high + 1) * wide < self.count
        ]
        return max(fitting, key=lambda tile: (tile[0] * tile[1], -sum(tile), tile[0]))

    def columns(self, rows: int) -> int:
        """Vectors of a tile of ``rows`` whose sums stay in registers beside what they are made of."""
        return max(1, (self.count - 1) // (rows + 1))


def halves(lanes: int) -> tuple[int, ...]:
    """``lanes`` of a whole register, of half of one, and so on down to one lane."""
    return tuple(lanes >> shift for shift in range(lanes.bit_length()))


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
