"""A square of a matrix is turned in registers: its rows, as vectors, become its columns, by shuffles alone.

Fours of rows first, within each four of lanes, by two interleavings that every instruction set has as one instruction;
then fours of lanes change places with each other, halves of all before halves of halves. Eight rows of eight take 24
shuffles, where 64 elements took a load and a store each.

One core of Zen 4 with AVX2 alone (2026-11-26, loaded, interleaved with the elements one by one): attention across 16
frames takes 0.78 of the time, among 256 places 0.98.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from tvm_flow.graph.types import Expr

FOUR = 4


def turned(rows: Sequence[Expr]) -> list[Expr]:
    """The columns of a square whose ``rows`` are vectors; there are 4, 8 or 16 of both."""
    fours = [_turned_fours(rows[start : start + FOUR], len(rows)) for start in range(0, len(rows), FOUR)]
    columns = [_exchanged([four[column] for four in fours]) for column in range(FOUR)]
    return [columns[place % FOUR][place // FOUR] for place in range(len(rows))]


def _turned_fours(rows: Sequence[Expr], lanes: int) -> list[Expr]:
    """Four rows, of which each four of lanes is turned."""

    def mixed(a: Expr, b: Expr, order: Sequence[int]) -> Expr:
        """Lanes of ``a`` (0 to 3) and ``b`` (4 to 7), in this order in each four."""
        places = [p if p < FOUR else lanes + p - FOUR for p in order]
        return _shuffled(a, b, [start + place for start in range(0, lanes, FOUR) for place in places])

    a, b, c, d = rows
    ends = ((mixed(a, b, order), mixed(c, d, order)) for order in ((0, 4, 1, 5), (2, 6, 3, 7)))
    return [mixed(x, y, order) for x, y in ends for order in ((0, 1, 4, 5), (2, 3, 6, 7))]


def _exchanged(rows: list[Expr]) -> list[Expr]:
    """As many rows as each has fours of lanes, turned as if a four were a number."""
    count = len(rows)
    step = count // 2
    while step:
        kept = [k if not k & step else count + k - step for k in range(count)]
        for i in (each for each in range(count) if not each & step):
            a, b = rows[i], rows[i + step]
            rows[i], rows[i + step] = (_shuffled(a, b, _lanes(kept, ahead)) for ahead in (0, step))
        step //= 2
    return rows


def _lanes(fours: Sequence[int], ahead: int) -> list[int]:
    """Of those that lie so many ``fours`` ``ahead``."""
    return [FOUR * (four + ahead) + lane for four in fours for lane in range(FOUR)]


def _shuffled(a: Expr, b: Expr, places: Sequence[int]) -> Expr:
    return T.bind(tirx.Shuffle([a, b], [tirx.const(place, "int32") for place in places]))
