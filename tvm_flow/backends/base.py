"""The contract of a backend: what a kind of device says of itself, so that nothing else need know it.

    kernel --offers--> Offer (what would run it, how its constants lie)  or  Refusal (why not, and what to do)
    calls  --place-->  segments: runs of calls for one device              `tvm_flow.backends.place`
    job    --compile-> Artifacts: objects that join the library, a payload for each segment
    device --runtime-> one C vtable (tvm_flow_device.h), in a library that the Python binding loads

A backend is one folder, its Python and its C beside each other, and one entry of `tvm_flow.backends.registry`. A target
names its backends in the order in which they are asked; the first that offers gets the kernel. A refusal is kept and
printed, never silent. What a kernel means is its Relax function as `tvm_flow.numerics` executes it; a backend that
rounds otherwise states its own rule beside that one: `Offer.arithmetic`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tvm_flow.backends.narrow import bounded_argument, narrow_arguments
from tvm_flow.backends.packed import Arithmetic, Layout, Made, PackedProgram, Placement, Refusal, Segment
from tvm_flow.graph.program import Program
from tvm_flow.target.spec import TargetSpec


def never(_position: int) -> bool:
    """The answer where nobody looked."""
    return False


@dataclass(frozen=True)
class Kernel:
    """What a backend is asked about: a private Relax function, and which arguments are constants at every call."""

    name: str
    function: Any
    constant: tuple[bool, ...]
    narrow: tuple[bool, ...] = ()
    """Which arguments are constant codes of 4 bits, -8 to 7, at every call; none where nobody looked."""
    bounded: Callable[[int], bool] = never
    """Whether the argument at a position is constant codes without a -128 at every call: all of them are read."""


def kernels_of(program: Program) -> list[Kernel]:
    """Every kernel that is called, an argument being constant when it is one at every call."""
    constant: dict[str, tuple[bool, ...]] = {}
    for call in program.calls:
        here = tuple(name in program.graph.constants for name in call.args)
        before = constant.get(call.kernel, here)
        constant[call.kernel] = tuple(a and b for a, b in zip(before, here, strict=True))
    narrow = narrow_arguments(program)
    return [
        Kernel(
            name,
            program.kernels[name],
            flags,
            tuple(position in narrow[name] for position in range(len(flags))),
            partial(bounded_argument, program, name),
        )
        for name, flags in constant.items()
    ]


@dataclass(frozen=True)
class Offer:
    """A backend's word that it computes a kernel exactly.

    ``implementation`` names what would run, for reports; ``choice`` is the backend's own note for `Backend.compile`;
    ``layouts`` says of arguments, by position, that they must be constants laid out otherwise. ``arguments``, where not
    empty, are what calls pass: positions of the kernel's own (laid out as said), and constants made of several.

    A device with rounding rules of its own has them as ``arithmetic``: exactly what it computes of the arguments that
    it is given. Then that is what calls are compared with, and not what the kernel's Relax function says.
    """

    implementation: str
    choice: object = None
    layouts: Mapping[int, Layout] = field(default_factory=dict)
    arguments: tuple[int | Made, ...] = ()
    arithmetic: Arithmetic | None = None

    def placement(self, device: str, refusals: tuple[tuple[str, Refusal], ...] = ()) -> Placement:
        """What was offered, by ``device``."""
        offered = {each.name: getattr(self, each.name) for each in fields(self)}
        return Placement(device, refusals=refusals, **offered)


@dataclass(frozen=True)
class CompileJob:
    """Segments of one group that are a backend's, and what their code is named by.

    ``tensors`` maps the arguments and the output of a call, in order, to rows of the library's tensor table, by the
    position of the call, and ``spaces`` to where they lie; symbols that leave an object start with ``prefix``.
    """

    packed: PackedProgram
    target: TargetSpec
    segments: Mapping[int, Segment]
    """By row of the library's segment table."""
    tensors: Mapping[int, tuple[int, ...]]
    prefix: str
    spaces: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """arena, weights, step or prompt."""


@dataclass(frozen=True)
class Artifacts:
    """What a backend made of a job.

    ``objects`` are relocatable ELF files that join the library; ``kernels`` maps kernel names to their symbols there
    (the CPU's calling convention); ``payloads`` maps rows of the segment table to (symbol, bytes) of constant data in
    the objects, which the device's part of the runtime reads.
    """

    objects: tuple[Path, ...]
    kernels: Mapping[str, str] = field(default_factory=dict)
    payloads: Mapping[int, tuple[str, int]] = field(default_factory=dict)


@runtime_checkable
class Backend(Protocol):
    """One kind of device."""

    @property
    def name(self) -> str:
        """As targets, libraries and the runtime's vtable name it."""

    @property
    def version(self) -> str:
        """Changes with what `offers` and `compile` do; "" where the sources of this package say it. Part of stamps."""

    def offers(self, kernel: Kernel, target: TargetSpec) -> Offer | Refusal:
        """Whether this backend runs ``kernel`` on ``target``; must not depend on what was asked before."""

    def compile(self, job: CompileJob, folder: Path) -> Artifacts:
        """Code of ``job``'s segments in ``folder``; raises BuildError naming the kernel."""

    def runtime_library(self) -> Path | None:
        """A shared library for this machine that exports ``tvm_flow_device_<name>``; None for the CPU.

        Raises BuildError when it cannot be made here.
        """


@runtime_checkable
class Joining(Backend, Protocol):
    """A backend that wants larger graphs than kernels: neighbours become one, see `tvm_flow.backends.regions`."""

    def joins(self, first: Any, second: Any) -> bool:
        """Whether two kernels of its, Relax functions of which the second alone reads the first, should be one."""


@runtime_checkable
class Gathering(Backend, Protocol):
    """A backend that computes certain runs of its kernels as one, in the arithmetic of their Relax functions."""

    def runs(self, program: Program, mine: Container[str]) -> list[range]:
        """Positions of consecutive calls of the kernels ``mine``, ascending; only the last hands over a result."""


@runtime_checkable
class BoardPart(Protocol):
    """A backend whose part of the runtime is compiled for boards too: bundles bring it, with its headers."""

    def board_library(self, zig_triple: str) -> Path:
        """`Backend.runtime_library` for another machine; raises BuildError when it cannot be made."""

    def board_headers(self) -> tuple[Path, ...]:
        """What a C program includes to use it."""
