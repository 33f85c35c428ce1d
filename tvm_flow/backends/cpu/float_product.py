"""float32 product of rows by a constant matrix, its weights packed as those of the integer products are.

    Y[.., n] = sum_k X[.., k] W[k, n]      X [.., K], W packed [N / columns, K, columns, 1], all float32

A tile of ``rows`` x ``vectors`` accumulators lies in registers over the whole of K; products are added in order of k. A
block of columns is read by `FloatChoice.tiles` of them while it is in the cache, and such groups run in parallel.

Rows of a tile divide X's last axis of rows: TVM computes wrongly what crosses two axes. A tile chosen by tuning reads
the weights as they are packed for the default: its columns divide those of a block, or are several blocks'.
One core of Zen 4 with AVX2 alone, whose peak is 45 GMAC/s (2026-11-26): 120x4096x1152 2.4 before and 41 so.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from tvm import s_tir, te

from tvm_flow.backends.cpu.choices import FloatChoice
from tvm_flow.backends.cpu.layout import BlockedColumns
from tvm_flow.backends.cpu.registers import Registers, halves
from tvm_flow.backends.cpu.tiling import MOST_TILES, PARALLEL_MACS, most_tiles, start_from_zero
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.graph.types import Expr, PrimFunc, Relax, Schedule

FEWEST_LANES = 4
"""Matrices whose columns come in smaller multiples are not packed."""
FEW_PRODUCTS = 16
"""Sums of at most so many products take as long as their stores: rows of a tile lie a whole row of Y apart, and end
within lines of the cache that the next block of columns completes.
"""
FEW_TILES = 4
"""Tiles of such sums that share a block of columns: their lines stay in the first cache until they are whole. One core
of Zen 4 with AVX2, shares of its peak with 4 tiles and with 16: 4096x16x1152 .81 and .76, 4096x8x1152 .59 and .42,
4096x24x1152 .87 and .91 (loaded, interleaved, 2026-11-26).
"""


@dataclass(frozen=True)
class FloatProduct:
    """X [*batch, k] times W [k, n], in tiles of ``rows`` x ``vectors`` vectors of ``lanes`` columns."""

    batch: tuple[int, ...]
    k: int
    n: int
    rows: int
    vectors: int
    lanes: int

    @property
    def m(self) -> int:
        """Rows of X."""
        return prod(self.batch)

    @property
    def columns(self) -> int:
        """Of a tile."""
        return self.vectors * self.lanes

    @property
    def layout(self) -> BlockedColumns:
        """How the weights are packed."""
        return BlockedColumns(self.columns, 1)

    @property
    def macs(self) -> int:
        """Multiplications."""
        return self.m * self.k * self.n

    @property
    def default(self) -> FloatChoice:
        """What is chosen unless something else is."""
        tiles = most_tiles(self.m // self.rows, MOST_TILES if self.k > FEW_PRODUCTS else FEW_TILES)
        return FloatChoice(self.rows, self.vectors, tiles, self.macs >= PARALLEL_MACS)


def as_float_product(function: Relax, registers: Registers) -> FloatProduct | None:
    """The product that the kernel ``function`` is, tiled for ``registers``; None for any other kernel.

    Its first two parameters are X, of two axes or more, and W.
    """
    bodies = [value for _, value in bindings_of(function) if op_name(value)]
    if [op_name(body) for body in bodies] != ["relax.matmul"] or len(function.params) != 2:
        return None
    x, w = bodies[0].args
    if not (x.same_as(function.params[0]) and w.same_as(function.params[1])):
        return None
    *batch, k = shape_of(x)
    if (dtype_of(x), dtype_of(w)) != ("float32", "float32") or not batch or len(shape_of(w)) != 2:
        return None
    return tiled(tuple(batch), k, shape_of(w)[1], registers)


def tiled(batch: tuple[int, ...], k: int, n: int, registers: Registers) -> FloatProduct | None:
    """The product of these sizes in the largest tile of ``registers``; None where columns come in too small parts."""
    lanes = next(lanes for lanes in halves(registers.lanes) if n % lanes == 0)
    if lanes < FEWEST_LANES:
        return None
    return FloatProduct(batch, k, n, *registers.tile(batch[-1], n // lanes), lanes)


def noted_float_product(packed: PackedProgram, kernel: str) -> FloatProduct | None:
    """What the CPU noted of ``kernel`` in its offer, where it is a packed float product."""
    placement = packed.placements.get(kernel)
    return placement.choice if placement is not None and isinstance(placement.choice, FloatProduct) else None


def float_product(name: str, product: FloatProduct, choice: FloatChoice | None = None) -> PrimFunc:
    """Scheduled TIR function ``name``(X, packed W, Y), in tiles of ``choice`` or of the default.

    Raises BuildError for a choice of another product.
    """
    choice = choice or product.default
    whole = product.n // product.lanes
    near = max(choice.vectors, product.vectors) % min(choice.vectors, product.vectors) == 0
    if product.batch[-1] % choice.rows or product.m // choice.rows % choice.tiles or whole % choice.vectors or not near:
        raise BuildError(f"{choice}: expected tiles that divide {product}; tune again")
    x = te.placeholder((*product.batch, product.k), "float32", "X")
    w = te.placeholder(product.layout.shape((product.k, product.n)), "float32", "W")
    step = te.reduce_axis((0, product.k), "k")

    def term(*place: Expr) -> Expr:
        return te.sum(x[(*place[:-1], step)] * w[product.layout.at(step, 0, place[-1])], axis=[step])

    y = te.compute((*product.batch, product.n), term, name="Y")
    schedule = s_tir.Schedule(te.create_prim_func([x, w, y], "int64"))
    _schedule(schedule, product, choice)
    return schedule.mod["main"].with_attr("global_symbol", name)


def _schedule(schedule: Schedule, product: FloatProduct, choice: FloatChoice) -> None:
    block = schedule.get_sblock("Y")
    *batch, column, step = schedule.get_loops(block)
    row = schedule.fuse(*batch) if len(batch) > 1 else batch[0]
    groups, tile, row = schedule.split(row, [None, choice.tiles, choice.rows])
    blocks, vector, lane = schedule.split(column, [None, choice.vectors, product.lanes])
    schedule.reorder(groups, blocks, tile, step, row, vector, lane)
    sums = schedule.cache_write(block, 0, "global")
    schedule.reverse_compute_at(sums, tile, preserve_unit_loops=True)
    outer = schedule.fuse(groups, blocks)
    if choice.parallel:
        schedule.parallel(outer)
    _, last = schedule.split(schedule.get_loops(sums)[-1], [None, product.lanes])
    schedule.vectorize(last)
    for loop in (row, vector):
        schedule.unroll(loop)
    schedule.vectorize(lane)
    start_from_zero(schedule, block, step)
