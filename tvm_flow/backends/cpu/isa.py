"""What the GEMM schedule needs to know of an instruction set, and the registry of those that have kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from tvm_flow.backends.cpu.layout import BlockedColumns, NibbleColumns
from tvm_flow.errors import BuildError


class Sums(Enum):
    """What an accumulator of an instruction holds; one module of kernels each."""

    PLAIN = "plain"
    """Sums of one column."""
    BIASED = "biased"
    """The same, of weights + 128."""
    WIDENED = "widened"
    """Sums of one column, of rows that are widened to int16 before."""
    PAIRED = "paired"
    """A 2x2 block of two rows and two columns, of rows that are laid out in twos before."""
    ACROSS = "across"
    """Parts of the sum of one row and one column."""


@dataclass(frozen=True)
class Isa:
    """An exact int8 x int8 -> int32 inner step of a target.

    One step multiplies ``depth`` consecutive codes of a row with a packed [lanes, depth] tile of weights and adds to
    ``lanes`` int32 accumulators. ``register`` makes the tensor intrinsic known to TVM and returns its name, or is None
    when the compiler vectorises the plain loop itself; the intrinsic takes ``groups`` steps along K at once.
    ``rows`` x ``vectors`` accumulators fill the register file. ``fallback`` serves the shapes that this one does not
    fit.
    """

    name: str
    features: frozenset[str]
    lanes: int
    depth: int
    rows: int
    vectors: int
    register: Callable[[], str] | None = None
    groups: int = 1
    sums: Sums = Sums.PLAIN
    fallback: Isa | None = None
    bounded: Isa | None = None
    """Another that takes weights above -128 alone, and is faster."""
    narrow: bool = False
    """Weights lie two in a byte; a kernel unpacks a block of them before its tiles read it."""

    @property
    def columns(self) -> int:
        """Weights are packed in blocks of this many output channels."""
        return self.lanes * self.vectors

    @property
    def layout(self) -> BlockedColumns | NibbleColumns:
        """How weights are packed."""
        return (NibbleColumns if self.narrow else BlockedColumns)(self.columns, self.depth)

    def with_narrow_weights(self) -> Isa:
        """The same for weights of 4 bits."""
        return replace(self, name=f"{self.name}-w4", narrow=True)

    @property
    def paired(self) -> bool:
        """True when rows and columns come in twos."""
        return self.sums is Sums.PAIRED

    @property
    def prepares_rows(self) -> bool:
        """True when a task lays out its rows anew before its first block of columns."""
        return self.sums in (Sums.WIDENED, Sums.PAIRED)

    @property
    def biased(self) -> bool:
        """True when 128 must be taken out of the weights' sums."""
        return self.sums is Sums.BIASED

    def fits(self, m: int, k: int, n: int) -> bool:
        """True when the kernel can compute [m, k] times [k, n]."""
        return not self.misfit(m, k, n)

    def misfit(self, m: int, k: int, n: int) -> str:
        """Why the kernel cannot compute [m, k] times [k, n]; "" when it can."""
        if k % (self.depth * self.groups) != 0:
            return f"K = {k} is no multiple of {self.depth * self.groups}"
        if m % 2 != 0 and self.paired:
            return f"M = {m} is odd"
        if n % self.columns != 0 and (self.sums in (Sums.BIASED, Sums.PAIRED, Sums.ACROSS) or self.narrow):
            return f"N = {n} is no multiple of {self.columns}"
        return ""


_REGISTRY: dict[str, Isa] = {}


def register_isa(isa: Isa) -> Isa:
    """Add ``isa`` to the registry; raises BuildError when another has its name."""
    if _REGISTRY.get(isa.name, isa) != isa:
        raise BuildError(f"instruction set {isa.name!r}: another is already registered under this name; choose one")
    _REGISTRY[isa.name] = isa
    return isa


def registered_isas() -> tuple[Isa, ...]:
    """All of them, whatever machine this is."""
    return tuple(_REGISTRY.values())


def choose_isa(features: frozenset[str]) -> Isa:
    """The widest registered instruction set whose features are all in ``features``.

    Raises BuildError when none is usable, which cannot be while the generic one is registered.
    """
    usable = [isa for isa in _REGISTRY.values() if isa.features <= features]
    if not usable:
        raise BuildError(f"target features {sorted(features)}: expected at least one known instruction set, got none")
    return max(usable, key=lambda isa: (isa.depth, isa.lanes))
