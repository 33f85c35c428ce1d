"""The command ``package``: what of exported steps is integers as command streams for an Ethos-U, in C.

    export --import, partition, regions--> calls --their own constants--> TOSA --vela--> streams --> C package

A stream has its scales baked in, so equal calls alone share one: the same linear at steps, or in branches, whose recipe
gave them the same scales, or that are joined here (`tvm_flow.compile.step_clusters`): then the program's codes have to
be by the scales of the package's calls, and not by the export's. Calls that are no region of integers, and those of the
prologue, are the program's: they are counted and named. A block of a recipe between integer is one region; what time
makes of each step is in it, so that steps share none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from tvm_flow.backends.npu.arm.backend import NAME
from tvm_flow.backends.npu.arm.ethos import ethos_text, is_region
from tvm_flow.backends.npu.arm.ethos_package import PackageCall, write_package
from tvm_flow.backends.npu.linears import linears_of
from tvm_flow.backends.packed import CPU
from tvm_flow.backends.place import with_regions
from tvm_flow.backends.registry import backend_named
from tvm_flow.compile.ethos_report import EthosPackage, stream_bytes
from tvm_flow.compile.step_clusters import Sharing
from tvm_flow.compile.step_members import Member, PackageOptions, members_of, region_calls
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.export.integer_blocks import UNIT as RESIDUAL
from tvm_flow.graph.constants import Array
from tvm_flow.graph.lifted import LiftedGraph
from tvm_flow.graph.program import KernelCall, Program
from tvm_flow.lower.partition import partition
from tvm_flow.target.spec import load_target
from tvm_flow.toolchain.arm_npu import ETHOS_U, ethos_stream, serialized

STEM = "step"
"""Of the package's own two files."""


def package_ethos(exported: Exported, options: PackageOptions, folder: Path, progress: bool = True) -> EthosPackage:
    """Write the package of ``exported`` into ``folder``; ``options.device`` is one of `ETHOS_U`.

    Raises BuildError for options that do not fit, for steps without a region, and with the words of Arm's tools.
    """
    if options.device not in ETHOS_U:
        raise BuildError(f"accelerator {options.device!r}: expected one of {', '.join(ETHOS_U)}; choose one of them")
    members = members_of(exported, options.steps, _program, progress)
    programs = {id(member.program): member.program for member in members}
    inside = {key: frozenset(n for n, f in made.kernels.items() if is_region(f)) for key, made in programs.items()}
    if not any(inside.values()):
        raise BuildError(
            f"{exported.folder}: expected linears of int8 codes, got none; quantize with a recipe that has them"
        )
    package = _Packager(Sharing(members, inside), options, progress).run()
    write_package(package.streams, package.calls, STEM, folder)
    return package


def _program(graph: LiftedGraph) -> Program:
    target = replace(load_target("host"), backends=(NAME, CPU))
    program, _ = with_regions(partition(graph), target, [backend_named(name) for name in target.backends])
    return program


class _Packager:
    def __init__(self, sharing: Sharing, options: PackageOptions, progress: bool) -> None:
        self.sharing, self.options, self.progress = sharing, options, progress
        self.package = EthosPackage(options.device, options.steps)
        self.regions: dict[str, str] = {}
        """By the text of their graphs."""

    def run(self) -> EthosPackage:
        package, sharing, sizes = self.package, self.sharing, dict[tuple[int, str], int]()
        clusters = sharing.clusters(self.options.clusters)
        for each in tqdm(sharing.members, "package", unit="graph", disable=not self.progress):
            member = replace(each, given=sharing.scales.joined(each, clusters))
            step = self.options.steps[member.position]
            for call, text in region_calls(member, _text, package.work):
                region = self.region(text)
                sizes.setdefault((id(member.program), call.output), stream_bytes(package.streams[region]))
                package.calls.append(PackageCall(call.kernel, region, step, member.branch, _scales(member, call)))
        package.choices = sharing.choices(clusters, sizes)
        return package

    def region(self, text: str) -> str:
        """The name of the region of ``text``, compiled when it is seen first."""
        if text not in self.regions:
            name = f"region{len(self.regions)}"
            self.package.streams[name] = ethos_stream(serialized(text), self.package.accelerator)
            self.regions[text] = name
        return self.regions[text]


def _text(member: Member, call: KernelCall, constants: Mapping[int, Array]) -> str:
    return ethos_text(member.program.kernels[call.kernel], constants)


def _scales(member: Member, call: KernelCall) -> tuple[float, float]:
    """What codes of the first input and of the output stand for."""
    if linears_of(member.program.kernels[call.kernel]):
        return member.scales(call)
    return (float(member.given[RESIDUAL]),) * 2
