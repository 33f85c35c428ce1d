"""A step graph cut into kernels: what lowering makes, backends claim, and the static plan and the checks read."""

from __future__ import annotations

from dataclasses import dataclass

from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.types import Relax


@dataclass(frozen=True)
class KernelCall:
    """``kernel`` reads ``args`` and writes ``output``; all are tensor names of the program."""

    kernel: str
    args: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class TensorSpec:
    """Static shape and element type of a tensor of the program."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Program:
    """A step graph as a straight line of kernel calls.

    ``kernels`` maps a name to its Relax function, which is its meaning: the generated code must compute it, and the
    integer reference executes it. The first ``prologue`` calls depend on the prompt alone: no latent, and no constant
    that changes with the step. ``others`` are the outputs after the first, which step graphs do not have.
    """

    graph: LiftedGraph
    kernels: dict[str, Relax]
    calls: tuple[KernelCall, ...]
    tensors: dict[str, TensorSpec]
    output: str
    prologue: int = 0
    others: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """All of them, in the order of the graph."""
        return (self.output, *self.others)

    def kept(self) -> tuple[str, ...]:
        """Tensors that the prologue hands over to the step, in the order they are written."""
        read = {name for call in self.calls[self.prologue :] for name in call.args}
        return tuple(call.output for call in self.calls[: self.prologue] if call.output in read)
