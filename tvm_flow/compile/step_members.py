"""Step graphs that are packaged for a device of integers: their programs, calls and constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm_flow.backends.npu.linears import Values, linears_of
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.graph.constants import Array, given_names
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import KernelCall, Program
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.numerics.integer_tables import UNIT

SCALE = ".scale"
"""Ends the names of initializers that are scales of a linear's input."""
Place = tuple[int, str]
"""Of a call, the same in all steps that share a program: the program's id and the call's output."""


@dataclass(frozen=True)
class PackageOptions:
    """For which device, which steps of the export, and to how many clusters they are joined.

    None leaves each step its own scales.
    """

    device: str
    steps: tuple[int, ...] = (0,)
    clusters: int | None = None


@dataclass(frozen=True, eq=False)
class Member:
    """A step graph: where its step lies among those that are packaged, its branch, program and constants."""

    position: int
    branch: int
    program: Program
    given: Mapping[str, Array]

    def calls(self, inside: Mapping[int, frozenset[str]]) -> list[KernelCall]:
        """Those of a step whose kernels are ``inside``, by the program's id."""
        kernels = inside[id(self.program)]
        return [call for call in self.program.calls[self.program.prologue :] if call.kernel in kernels]

    def place(self, call: KernelCall) -> Place:
        """Of one of its calls."""
        return id(self.program), call.output

    def read(self, call: KernelCall) -> frozenset[str]:
        """Initializers that the constants of what ``call`` starts with are made of: its linears, else all of it."""
        function, known = self.program.kernels[call.kernel], self.program.graph.constants
        places = Values(function, {})
        read = {places.place(parameter) for linear in linears_of(function) for parameter in vars(linear).values()}
        names = [name for place, name in enumerate(call.args) if name in known and (not read or place in read)]
        return frozenset[str]().union(*(given_names(known[name]) for name in names))

    def scales(self, call: KernelCall) -> tuple[float, float]:
        """What codes stand for that the linears of ``call`` read, and those that they hand on."""
        function = self.program.kernels[call.kernel]
        linears, places = linears_of(function), Values(function, {})
        step = linears[-1].step
        first = self._scale(call.args[places.place(linears[0].scale)])
        return first, UNIT if step is None else self._scale(call.args[places.place(step)])

    def _scale(self, constant: str) -> float:
        """The scale of an input that is in the product ``constant``, or it alone."""
        (name,) = (n for n in given_names(self.program.graph.constants[constant]) if n.endswith(SCALE))
        return float(self.given[name])


def members_of(
    exported: Exported, steps: Sequence[int], program: Callable[[LiftedGraph], Program], progress: bool
) -> list[Member]:
    """Of ``steps`` in order, all branches; ``program`` makes one of a step group's graph.

    Raises BuildError for a step that there is none of.
    """
    if beyond := [step for step in steps if step >= len(exported.graphs)]:
        raise BuildError(
            f"step {beyond[0]}: expected one of 0 to {len(exported.graphs) - 1}, which {exported.folder} has; "
            "choose among them, or export more"
        )
    found = []
    for group in import_steps([exported.graphs[step] for step in steps], progress):
        made = program(group.graph)
        for (position, branch), given in zip(group.members, group.given, strict=True):
            found.append(Member(position, branch, made, given))
    return sorted(found, key=lambda member: (member.position, member.branch))
