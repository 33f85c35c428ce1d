"""What can be chosen of a kernel's schedule beside its default: the spaces that `tvm_flow.tune` searches.

    product     rows of a register tile, tiles of rows that share a block of weights, blocks of columns that a tile of
                rows meets in a row, parts of columns that each lay out their rows, threads or not, lanes of the vectors
                in which a tile is written out (where something follows the product)
    attention   rows of a tile of sums (of a task, where attention is small), its columns (of keys, in the first
                product), threads or not
    rows        lanes of a vector, threads or not

None of these changes the order in which numbers are added up: every candidate gives the bits of the default.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields, replace
from math import log2
from typing import ClassVar, TypeVar

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.tiling import MOST_TILES, REARRANGED_LANES, Order, default_order, most_tiles, rows_of_a_tile
from tvm_flow.errors import BuildError
from tvm_flow.graph.types import Loop, Schedule


@dataclass(frozen=True)
class ProductChoice:
    """See the module; a `tvm_flow.backends.cpu.tiling.Tiling`."""

    kind: ClassVar[str] = "product"
    rows: int
    tiles: int
    blocks: int
    parts: int
    parallel: bool
    lanes: int = 0
    """Of the vectors in which a tile's sums are written out; 0: as the default has them."""

    def split(self, schedule: Schedule, rows: Loop, m: int, isa: Isa) -> tuple[Loop, Loop, Loop]:
        """See `Tiling`; raises BuildError when the choice is of another product."""
        if m % (self.rows * self.tiles) or self.rows % (2 if isa.paired else 1):
            raise BuildError(f"{self}: expected tiles that divide M = {m} on {isa.name}; tune again")
        if self.lanes and isa.columns % self.lanes:
            raise BuildError(f"{self}: expected lanes that divide the {isa.columns} columns of {isa.name}; tune again")
        groups, tile, row = schedule.split(rows, [None, self.tiles, self.rows])
        return groups, tile, row

    def order(self, _groups: int, blocks: int, _macs: int, _isa: Isa) -> Order:
        """See `Tiling`; raises BuildError when the choice is of another product."""
        if blocks % (self.blocks * self.parts):
            raise BuildError(f"{self}: expected parts that divide {blocks} blocks of columns; tune again")
        return Order(self.blocks, self.parts, self.parallel, self.lanes)


@dataclass(frozen=True)
class AttentionChoice:
    """See the module."""

    kind: ClassVar[str] = "attention"
    rows: int
    columns: int
    parallel: bool


@dataclass(frozen=True)
class RowsChoice:
    """See the module."""

    kind: ClassVar[str] = "rows"
    lanes: int
    parallel: bool


Choice = ProductChoice | AttentionChoice | RowsChoice
AnyChoice = TypeVar("AnyChoice", ProductChoice, AttentionChoice, RowsChoice)
NEAR = 16
"""How far from the default's threshold for threads a kernel is tried on both sides of it."""
_KINDS: dict[str, type[Choice]] = {each.kind: each for each in (ProductChoice, AttentionChoice, RowsChoice)}


def choice_to_json(choice: Choice) -> dict[str, int | str]:
    """A mapping that `choice_from_json` takes; without what is as the default has it (0)."""
    return {"kind": choice.kind} | {name: value for name, value in asdict(choice).items() if value or value is False}


def choice_from_json(values: object) -> Choice:
    """Raises BuildError for a mapping that describes no choice of this version."""
    kind = _KINDS.get(str(values.get("kind"))) if isinstance(values, dict) else None
    if kind is None or not isinstance(values, dict) or not _required(kind) <= set(values) <= _known(kind):
        raise BuildError(f"candidate {values!r}: expected one of {', '.join(_KINDS)} of this version; tune again")
    given = {name: value for name, value in values.items() if name != "kind"}
    wrong = [name for name, value in given.items() if type(value) is not (bool if name == "parallel" else int)]
    if wrong or any(value < 1 for name, value in given.items() if name != "parallel"):
        raise BuildError(f"candidate {values!r}: expected whole numbers above 0 and true or false; tune again")
    return kind(**given)


def _required(kind: type[Choice]) -> set[str]:
    return {"kind", *(each.name for each in fields(kind) if each.default is MISSING)}


def _known(kind: type[Choice]) -> set[str]:
    return {"kind", *(each.name for each in fields(kind))}


def product_default(product: Product, parallel: bool) -> ProductChoice:
    """What the default schedule of ``product`` comes to."""
    rows = rows_of_a_tile(product.m, product.isa)[-1]
    tiles = most_tiles(product.m // rows)
    return ProductChoice(rows, tiles, 1, _parts(product, rows * tiles), parallel)


def _parts(product: Product, group: int) -> int:
    """Those of the default for groups of so many rows; 1 for kernels that read rows as they lie."""
    if not product.isa.prepares_rows:
        return 1
    return default_order(product.m // group, product.n // product.isa.columns, 0, product.isa).parts


def product_space(product: Product, parallel: bool) -> list[ProductChoice]:
    """Every other choice for ``product``, those next to the default first; none where columns are not whole blocks.

    ``parallel`` is whether the default runs on several threads. Tiles of up to half as many rows again as the registers
    are meant for are in it: what a core makes of a few spills is for the measurement to say.
    """
    if product.n % product.isa.columns:
        return []
    m, step, default = product.m, 2 if product.isa.paired else 1, product_default(product, parallel)
    most = max(product.isa.rows * 3 // 2, step)
    space = [
        ProductChoice(rows, tiles, blocks, parts, parallel, lanes)
        for rows in range(step, most + 1, step)
        if m % rows == 0
        for tiles in _powers_and_whole(m // rows, 4 * MOST_TILES)
        for blocks in _powers_and_whole(product.n // product.isa.columns, 16)
        for parts in _part_choices(product, rows * tiles, blocks)
        for lanes in (0, *_other_lanes(product))
    ]
    return sorted((each for each in space if each != default), key=lambda each: _distance(each, default))


def _part_choices(product: Product, group: int, blocks: int) -> list[int]:
    """Numbers of parts around the default's that divide the blocks; 1 where rows are read as they lie."""
    usual, extent = _parts(product, group), product.n // product.isa.columns // blocks
    wanted = (usual, usual * 2, usual // 2) if product.isa.prepares_rows else (usual,)
    return [parts for parts in wanted if parts and extent % parts == 0]


def _other_lanes(product: Product) -> list[int]:
    """Of vectors of what follows a product, beside the default's; none where nothing follows."""
    isa = product.isa
    usual = min(REARRANGED_LANES, isa.columns) if isa.paired else isa.lanes
    return [lanes for lanes in (8, 4, 16) if product.epilogue and lanes != usual and isa.columns % lanes == 0]


def attention_space(rows: int, columns: int, default: AttentionChoice) -> list[AttentionChoice]:
    """Every other choice for attention over ``rows`` of ``columns`` scores a head, next to the default first."""
    space = [
        AttentionChoice(r, c, default.parallel)
        for r in range(1, 13)
        if rows % r == 0
        for c in (8, 16, 24, 32, 48, 64)
        if r * c <= 512 and (c <= columns or c == default.columns)
    ]
    return sorted((each for each in space if each != default), key=lambda each: _distance(each, default))


def rows_space(columns: int, default: RowsChoice) -> list[RowsChoice]:
    """Every other choice for a kernel of rows of ``columns`` elements."""
    space = [RowsChoice(lanes, default.parallel) for lanes in (8, 16, 32, 64, 4) if columns % lanes == 0]
    return [each for each in space if each != default]


def other_threads(default: AnyChoice, size: int, threshold: int) -> list[AnyChoice]:
    """``default`` with threads where it has none, or without; none for a ``size`` far from the ``threshold`` of both.

    ``default.parallel`` is whether ``size`` reaches ``threshold``: what waking a thread costs is another on each board.
    """
    near = threshold <= size * NEAR and size <= threshold * NEAR
    return [replace(default, parallel=not default.parallel)] if near else []


def _powers_and_whole(extent: int, most: int) -> list[int]:
    """Divisors of ``extent`` up to ``most`` that are powers of two or three times one, and the greatest of all."""
    round_numbers = {factor << power for factor in (1, 3) for power in range(most.bit_length())}
    divisors = [d for d in range(1, min(extent, most) + 1) if extent % d == 0]
    return [d for d in divisors if d in round_numbers or d == divisors[-1]]


def _distance(choice: Choice, default: Choice) -> tuple[float, str]:
    one, other = asdict(choice), asdict(default)
    steps = sum(abs(log2(one[name] / other[name])) for name in one if name not in ("parallel", "lanes"))
    return steps + (one.get("lanes") != other.get("lanes")), str(choice)
