"""A program whose kernels have been given to backends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

from tvm_flow.backends.always import CPU as CPU
from tvm_flow.backends.cpu.choices import Choice
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array, Constant
from tvm_flow.graph.program import Program
from tvm_flow.numerics.reference import Value, execute


class Layout(Protocol):
    """How a constant lies in memory for the kernel that reads it, and its inverse: stated here and nowhere else."""

    @property
    def rule(self) -> str:
        """Key of `tvm_flow.graph.constants.RULES` under which `pack` is known."""

    @property
    def options(self) -> tuple[int, ...]:
        """What the rule takes besides the array."""

    def shape(self, plain: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of `pack`'s result."""

    def pack(self, plain: Array) -> Array:
        """The bytes that the kernel reads."""

    def unpack(self, packed: Array, plain: tuple[int, ...]) -> Array:
        """The array of shape ``plain`` that was packed."""


@dataclass(frozen=True)
class Made:
    """A constant argument that a backend has made of others, where one layout of one constant is not enough.

    ``rule`` is a key of `tvm_flow.graph.constants.RULES`, which gets the arguments of the kernel at ``positions``, all
    constant, and ``options``.
    """

    rule: str
    positions: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: str
    options: tuple[int, ...] = ()


Arithmetic = Callable[[list[Array]], Value]
"""What a device computes of the arguments that it is given, where it has rounding rules of its own."""


@dataclass(frozen=True)
class Refusal:
    """Why a backend does not run a kernel, and what would help."""

    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Segment:
    """Calls ``first`` to ``first + count`` of a program, all on ``device``."""

    device: str
    first: int
    count: int

    @property
    def calls(self) -> range:
        """Positions in the program."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class Placement:
    """Who runs a kernel: a backend's name, what it offered (`tvm_flow.backends.base.Offer`), who refused before it."""

    device: str
    implementation: str
    choice: object = None
    layouts: Mapping[int, Layout] = field(default_factory=dict)
    arguments: tuple[int | Made, ...] = ()
    arithmetic: Arithmetic | None = None
    refusals: tuple[tuple[str, Refusal], ...] = ()


@dataclass(frozen=True)
class PackedProgram:
    """A program whose calls read constants as their kernels want them; the mappings are keyed by kernel name.

    ``constants`` are those that calls read. ``products`` are the integer products of the CPU. The program keeps the
    meaning of a kernel in terms of plain arrays; `plain_inputs` goes back to them.
    """

    program: Program
    constants: dict[str, Constant]
    products: Mapping[str, Product]
    placements: Mapping[str, Placement] = field(default_factory=dict)
    choices: Mapping[str, Choice] = field(default_factory=dict)
    """By which a kernel of the CPU is scheduled that is no product; the default where there is none."""

    def device_of(self, kernel: str) -> str:
        """The backend that runs ``kernel``."""
        placement = self.placements.get(kernel)
        return CPU if placement is None else placement.device

    def kernels_of(self, device: str) -> tuple[str, ...]:
        """Names of the kernels that ``device`` runs."""
        return tuple(name for name in self.program.kernels if self.device_of(name) == device)

    def segments(self) -> tuple[Segment, ...]:
        """The program's calls as runs for one device each; none crosses the border of the prologue."""
        calls, found = self.program.calls, []
        sides = [(i < self.program.prologue, self.device_of(call.kernel)) for i, call in enumerate(calls)]
        for (_, device), run in groupby(range(len(calls)), key=sides.__getitem__):
            positions = list(run)
            found.append(Segment(device, positions[0], len(positions)))
        return tuple(found)

    def expected(self, kernel: str, inputs: list[Array]) -> Value:
        """What a call of ``kernel`` must give: by the device's own arithmetic, or as its Relax function says."""
        placement = self.placements.get(kernel)
        if placement is not None and placement.arithmetic is not None:
            return placement.arithmetic(inputs)
        return execute(self.program.kernels[kernel], self.plain_inputs(kernel, inputs))

    def plain_inputs(self, kernel: str, inputs: list[Array]) -> list[Array]:
        """Arguments of a call of ``kernel`` as its Relax function takes them.

        Raises BuildError for a kernel that is given constants made of several, which nothing undoes.
        """
        placement = self.placements.get(kernel)
        if placement is None or not (placement.layouts or placement.arguments):
            return inputs
        if placement.arguments:
            raise BuildError(
                f"kernel {kernel}: expected arguments as its function takes them, got those that {placement.device} "
                "makes of them; compare it by that device's arithmetic"
            )
        params = self.program.kernels[kernel].params
        plain = list(inputs)
        for position, layout in placement.layouts.items():
            shape = tuple(int(extent) for extent in params[position].ty.shape)
            plain[position] = layout.unpack(inputs[position], shape)
        return plain
