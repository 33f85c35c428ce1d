"""What can be chosen of a kernel's schedule beside its default; `tvm_flow.backends.cpu.candidates` has what is tried.

    product     rows of a register tile, tiles of rows that share a block of weights, blocks of columns that a tile of
                rows meets in a row, parts of columns that each lay out their rows, threads or not, lanes of the vectors
                in which a tile is written out (where something follows the product)
    attention   rows of a tile of sums (of a task, where attention is small), its columns (of keys, in the first
                product), threads or not; where it streams, blocks of keys, and rows whose scores exist at a time
    rows        lanes of a vector, rows of a task (which are computed side by side), threads or not
    floats      rows and vectors of a tile of a float product, tiles that share a block of columns, threads or not

One of these changes the order in which numbers are added up, the blocks of keys (`Choice.reorders`): such a candidate
stays within the bound that the default is held to (`tvm_flow.check.calls`). All others give the bits of the default.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, fields
from typing import ClassVar

from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.tiling import Order, default_order, most_tiles, rows_of_a_tile
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
    reorders: ClassVar[bool] = False

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
    blocks: int = 0
    """Of keys; 0: as the default has them."""
    group: int = 0
    """Rows whose scores exist at a time, about; 0: as the default has them."""

    @property
    def reorders(self) -> bool:
        """Whether sums are added up in another order than the default's."""
        return self.blocks > 0


@dataclass(frozen=True)
class RowsChoice:
    """See the module."""

    kind: ClassVar[str] = "rows"
    lanes: int
    parallel: bool
    rows: int = 0
    """Of a task; 0: a row, or where nothing is added up, a vector of any row."""
    reorders: ClassVar[bool] = False


@dataclass(frozen=True)
class FloatChoice:
    """See the module."""

    kind: ClassVar[str] = "floats"
    rows: int
    vectors: int
    tiles: int
    parallel: bool
    reorders: ClassVar[bool] = False


Choice = ProductChoice | AttentionChoice | RowsChoice | FloatChoice
_CHOICES: tuple[type[Choice], ...] = (ProductChoice, AttentionChoice, RowsChoice, FloatChoice)
_KINDS = {each.kind: each for each in _CHOICES}


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
    return ProductChoice(rows, tiles, 1, parts_of(product, rows * tiles), parallel)


def parts_of(product: Product, group: int) -> int:
    """Those of the default for groups of so many rows; 1 for kernels that read rows as they lie."""
    if not product.isa.prepares_rows:
        return 1
    return default_order(product.m // group, product.n // product.isa.columns, 0, product.isa).parts
