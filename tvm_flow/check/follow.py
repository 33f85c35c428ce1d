"""Following a function of a bundle call by call: the right tensors meet the right kernels, in the right order.

`tvm_flow.check.calls` compares a kernel with the reference on whatever it was given. This follows the program beside
the trace: every call must come, once and in order, those of a prologue before the first run of a branch and wherever it
comes to another group; every tensor that a kernel reads must hold, bit for bit, what the program last wrote under that
name, or what the function was given; every constant what the exported graph says; and what a prologue hands over must
still be there at every run after.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

from tvm_flow.check.calls import Array, ExactnessReport, Members, calls_of_run, require_same_bits
from tvm_flow.check.names import require_names_apart
from tvm_flow.check.parts import Part
from tvm_flow.check.sampling import CallCheck
from tvm_flow.errors import BitExactError
from tvm_flow.graph.program import Program
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import TracedCall

Run = tuple[int, int]
"""Step and branch, or chunk and 0."""


class FailedCall(BitExactError):
    """`BitExactError` at a traced call; ``seen`` has its own copies of the arguments."""

    def __init__(self, message: str, library: GroupLibrary, seen: TracedCall, where: str) -> None:
        super().__init__(message)
        self.library, self.seen, self.where = library, seen, where


class FollowedRuns(ABC):
    """Give `see` every traced call of ``runs``, in order, then call `finish`."""

    part: Part
    stops_early = False
    """The runtime is cancelled when all ``runs`` were seen: it would go on."""

    def __init__(self, members: Members, runs: Sequence[Run], report: ExactnessReport, compare: CallCheck) -> None:
        for library in {id(library): library for library, _ in members.values()}.values():
            require_names_apart(library.packed)
        self.members, self.runs, self.report, self.compare = members, list(runs), report, compare
        self.position = self.call = 0
        self.tensors: dict[str, Array] = {}
        self.handed_over: dict[int, dict[str, Array]] = {}
        self.dropped: dict[int, list[list[str]]] = {}

    @abstractmethod
    def where(self, step: int, branch: int) -> str:
        """A run in words."""

    @abstractmethod
    def inputs(self, step: int, branch: int) -> tuple[Array, ...]:
        """What the graph of a run must be given, in the order of its inputs."""

    @abstractmethod
    def end_of_run(self, run: Run, output: Array) -> None:
        """Keep what ``run`` made."""

    @abstractmethod
    def require_result(self, result: Floats) -> None:
        """Raise BitExactError when ``result`` is not what the last calls wrote."""

    @property
    def expected_calls(self) -> int:
        """Kernel calls of all runs."""
        return sum(len(calls_of_run(self.members, *run)) for run in self.runs)

    @property
    def done(self) -> bool:
        """All runs were seen to their end."""
        return self.position == len(self.runs)

    def see(self, seen: TracedCall) -> None:
        """Compare one call; raises BitExactError when it is not the next one, reads what it should not, or is wrong."""
        run = self.runs[self.position] if self.position < len(self.runs) else None
        if (seen.step, seen.branch) != run or seen.call != self.call:
            expected = f"call {self.call} of {self.where(*run)}" if run else "no more calls"
            raise BitExactError(
                f"trace: expected {expected}, got call {seen.call} of {self.where(seen.step, seen.branch)}. "
                "The library must not ship: report this graph and target"
            )
        library, _ = self.members[run]
        try:
            self._follow(library, run, seen)
        except BitExactError as error:
            copied = replace(seen, args=tuple(argument.copy() for argument in seen.args))
            raise FailedCall(str(error), library, copied, self.where(*run)) from error

    def finish(self, result: Floats) -> None:
        """Raises BitExactError when calls are missing or ``result`` is not what they wrote."""
        seen = self.report.calls + self.report.followed
        if seen != self.expected_calls:
            raise BitExactError(f"trace: expected {self.expected_calls} kernel calls, got {seen}; report this graph")
        self.require_result(result)

    def _follow(self, library: GroupLibrary, run: Run, seen: TracedCall) -> None:
        packed = library.packed
        program = packed.program
        self._start(program, run, seen.call)
        planned = program.calls[seen.call]
        where = f"{self.where(*run)}, call {seen.call}, kernel {seen.kernel}"
        if seen.kernel != planned.kernel:
            raise BitExactError(f"{where}: expected kernel {planned.kernel}; report this graph and target")
        for name, got in zip(planned.args, seen.args, strict=False):
            if name in self.tensors:
                require_same_bits(f"{where}, tensor {name}", self.tensors[name], got)
            elif name not in packed.constants:
                raise BitExactError(f"{where}: expected tensor {name} to be written before it is read; report this")
        self.compare(seen, self.members, self.report, self.where(*run))
        self.tensors[planned.output] = seen.args[-1].copy()
        for name in self._last_reads(program)[seen.call]:
            self.tensors.pop(name, None)
        self.call += 1
        if self.call == program.prologue:
            self.handed_over[seen.branch] = {name: self.tensors[name] for name in program.kept()}
        if self.call == len(program.calls):
            self.position += 1
            self.call = calls_of_run(self.members, *self.runs[self.position]).start if not self.done else 0
            self.end_of_run(run, self.tensors[program.output])

    def _start(self, program: Program, run: Run, call: int) -> None:
        """At the first call of a part, what it finds: inputs, and for the step what the prologue handed over."""
        inputs = dict(zip(program.graph.inputs, self.inputs(*run), strict=True))
        if call == program.prologue:
            self.tensors = inputs | (self.handed_over[run[1]] if program.prologue else {})
        elif call == 0:
            latent, *_ = program.graph.inputs
            self.tensors = {name: value for name, value in inputs.items() if name != latent}

    def _last_reads(self, program: Program) -> list[list[str]]:
        """For every call of ``program`` the tensors that nothing reads after it: all of a step fill a machine."""
        if id(program) not in self.dropped:
            last = {name: index for index, call in enumerate(program.calls) for name in (call.output, *call.args)}
            for output in program.outputs:
                last.pop(output, None)
            by_call: list[list[str]] = [[] for _ in program.calls]
            for name, index in last.items():
                by_call[index].append(name)
            self.dropped[id(program)] = by_call
        return self.dropped[id(program)]
