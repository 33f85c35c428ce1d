"""The command ``package``: the linears of exported steps as command streams for an Ethos-U, in C.

    export --import, partition, regions--> calls --their own constants--> TOSA --vela--> streams --> C package

A stream has its scales baked in, so equal calls alone share one: the same linear at steps, or in branches, whose recipe
gave them the same scales. A recipe with step groups (``static-w8a8-g1`` ... ``-g10``: clusters that dynamic programming
chose from the ranges) is how many steps share; ``evaluate`` says what that costs. Calls that are no region of integers,
and those of the prologue, are the program's: they are counted and named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from tvm_flow.backends.npu.arm.backend import NAME
from tvm_flow.backends.npu.arm.ethos import ethos_text
from tvm_flow.backends.npu.arm.ethos_package import PackageCall, write_package
from tvm_flow.backends.packed import CPU
from tvm_flow.backends.place import with_regions
from tvm_flow.backends.registry import backend_named
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.graph.constants import Array, evaluate
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import StepGroup, import_steps
from tvm_flow.lower.partition import partition
from tvm_flow.plan.coverage import kernel_macs
from tvm_flow.target.spec import load_target
from tvm_flow.toolchain.arm_npu import ETHOS_U, EthosStream, ethos_stream, serialized

STEM = "step"
"""Of the package's own two files."""


@dataclass
class EthosPackage:
    """What was packaged: streams by the names of their regions, calls in order, MACs of calls outside by the reason."""

    accelerator: str
    steps: tuple[int, ...]
    streams: dict[str, EthosStream] = field(default_factory=dict)
    calls: list[PackageCall] = field(default_factory=list)
    outside: Counter[str] = field(default_factory=Counter)
    inside: int = 0
    """MACs of calls inside."""

    @cached_property
    def bytes(self) -> int:
        """Of all streams and their weights."""
        return sum(map(_size, self.streams.values()))

    @property
    def first_bytes(self) -> int:
        """Of the first step's."""
        return sum(map(_size, (self.streams[n] for n in {c.region for c in self.calls if c.step == self.steps[0]})))

    def cycles(self, step: int) -> int:
        """vela's estimate of a step's calls, all branches."""
        return sum(self.streams[call.region].cycles for call in self.calls if call.step == step)

    def lines(self) -> Iterator[str]:
        """For a person."""
        plural = "s" if len(self.steps) > 1 else ""
        whole = self.inside + sum(self.outside.values())
        yield (
            f"{self.accelerator}: {len(self.calls)} calls of {len(self.steps)} step{plural} by {len(self.streams)} "
            f"command streams, {self.bytes} bytes; the first step alone {self.first_bytes}, without sharing "
            f"{self.unshared} bytes"
        )
        yield f"{self.accelerator} runs {self.inside / whole:.1%} of the MACs"
        for reason, macs in self.outside.most_common():
            yield f"outside: {macs / whole:.1%} of the MACs: {reason}"
        for step in self.steps:
            cycles = self.cycles(step)
            macs = sum(self.streams[call.region].macs for call in self.calls if call.step == step)
            busy = macs / (cycles * ETHOS_U[self.accelerator]) if cycles else 0.0
            yield f"step {step}: about {cycles} cycles, utilisation {busy:.3f}"

    @property
    def unshared(self) -> int:
        """Bytes, had every call a stream of its own."""
        return sum(_size(self.streams[call.region]) for call in self.calls)


def _size(stream: EthosStream) -> int:
    return len(stream.commands) + len(stream.weights)


def package_ethos(
    exported: Exported, accelerator: str, steps: Sequence[int], folder: Path, progress: bool = True
) -> EthosPackage:
    """Write the package of ``steps`` of ``exported`` for ``accelerator`` into ``folder``.

    Raises BuildError for an accelerator or a step that there is none of, for steps without a region, and with the words
    of Arm's tools.
    """
    if accelerator not in ETHOS_U:
        raise BuildError(f"accelerator {accelerator!r}: expected one of {', '.join(ETHOS_U)}; choose one of them")
    if beyond := [step for step in steps if step >= len(exported.graphs)]:
        raise BuildError(
            f"step {beyond[0]}: expected one of 0 to {len(exported.graphs) - 1}, which {exported.folder} has; "
            "choose among them, or export more"
        )
    groups = import_steps([exported.graphs[step] for step in steps], progress)
    package = _Packager(EthosPackage(accelerator, tuple(steps)), progress).run(groups)
    if not package.calls:
        raise BuildError(
            f"{exported.folder}: expected linears of int8 codes, got none; quantize with a recipe that has them"
        )
    write_package(package.streams, package.calls, STEM, folder)
    return package


@dataclass
class _Packager:
    package: EthosPackage
    progress: bool
    regions: dict[str, str] = field(default_factory=dict)
    """By the text of their graphs."""

    def run(self, groups: Sequence[StepGroup]) -> EthosPackage:
        members = [
            (member, group, given) for group in groups for member, given in zip(group.members, group.given, strict=True)
        ]
        programs = {id(group): _program(group) for group in groups}
        shown = tqdm(sorted(members, key=lambda each: each[0]), "package", unit="graph", disable=not self.progress)
        for (position, branch), group, given in shown:
            self.member(programs[id(group)], given, self.package.steps[position], branch)
        return self.package

    def member(self, program: Program, given: Mapping[str, Array], step: int, branch: int) -> None:
        for index, call in enumerate(program.calls):
            macs = kernel_macs(program.kernels[call.kernel])
            if not macs:
                continue
            if index < program.prologue:
                self.package.outside["the prologue, which runs once for a prompt"] += macs
                continue
            known = program.graph.constants
            constants = {i: evaluate(known[name], given) for i, name in enumerate(call.args) if name in known}
            try:
                text = ethos_text(program.kernels[call.kernel], constants)
            except BuildError as error:
                self.package.outside[str(error)] += macs
                continue
            self.package.inside += macs
            self.package.calls.append(PackageCall(call.kernel, self.region(text), step, branch))

    def region(self, text: str) -> str:
        """The name of the region of ``text``, compiled when it is seen first."""
        if text not in self.regions:
            name = f"region{len(self.regions)}"
            self.package.streams[name] = ethos_stream(serialized(text), self.package.accelerator)
            self.regions[text] = name
        return self.regions[text]


def _program(group: StepGroup) -> Program:
    target = replace(load_target("host"), backends=(NAME, CPU))
    program, _ = with_regions(partition(group.graph), target, [backend_named(name) for name in target.backends])
    return program
