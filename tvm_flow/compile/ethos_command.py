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
from tvm_flow.backends.npu.arm.ethos_package import write_package
from tvm_flow.backends.npu.linears import linears_of
from tvm_flow.backends.packed import CPU
from tvm_flow.backends.place import with_regions
from tvm_flow.backends.registry import backend_named
from tvm_flow.compile.ethos_report import EthosPackage, stream_bytes
from tvm_flow.compile.packaged import Scales
from tvm_flow.compile.step_clusters import Sharing
from tvm_flow.compile.step_members import Member, PackageOptions, members_of
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
    sharing = Sharing.of(members, is_region, exported.folder, "a recipe that has them")
    packager = _Packager(EthosPackage(options.device, options.steps), progress)
    packager.package.place(sharing, options, packager.region, packager.compiled)
    write_package(packager.package.streams, packager.package.calls, STEM, folder)
    return packager.package


def _program(graph: LiftedGraph) -> Program:
    target = replace(load_target("host"), backends=(NAME, CPU))
    program, _ = with_regions(partition(graph), target, [backend_named(name) for name in target.backends])
    return program


class _Packager:
    def __init__(self, package: EthosPackage, progress: bool) -> None:
        self.package, self.progress = package, progress
        self.regions: dict[str, str] = {}
        """By the text of their graphs."""

    def region(self, member: Member, call: KernelCall, constants: Mapping[int, Array]) -> tuple[str, Scales]:
        """Of a call; raises BuildError for one that is none."""
        function = member.program.kernels[call.kernel]
        name = self.regions.setdefault(ethos_text(function, constants), f"region{len(self.regions)}")
        return name, member.scales(call) if linears_of(function) else (float(member.given[RESIDUAL]),) * 2

    def compiled(self) -> dict[str, int]:
        """The bytes of every region, which is compiled once."""
        for text, name in tqdm(self.regions.items(), "package", unit="region", disable=not self.progress):
            self.package.streams[name] = ethos_stream(serialized(text), self.package.device)
        return {name: stream_bytes(stream) for name, stream in self.package.streams.items()}
