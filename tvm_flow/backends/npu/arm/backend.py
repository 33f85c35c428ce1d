"""Arm's neural accelerators as a backend, ``npu_arm``: kernels with a product, each one TOSA graph and one VGF.

A VGF runs on Vulkan devices with VK_ARM_tensors and VK_ARM_data_graph; on this machine in Arm's emulation layer (see
`tvm_flow.backends.npu.arm.npu_device`).

The payload of a segment is a table of blobs, a VGF for each call. Constants are its inputs, so one serves every step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_flow.backends.base import Artifacts, CompileJob, Kernel, Offer
from tvm_flow.backends.npu.arm.blobs import Blob, blob_source
from tvm_flow.backends.npu.arm.integer_graph import IntegerGraph
from tvm_flow.backends.npu.arm.limits import refused_integers
from tvm_flow.backends.npu.arm.npu_device import RUNTIME_PART, build_board_device, build_emulated_device
from tvm_flow.backends.packed import Made, PackedProgram, Refusal
from tvm_flow.errors import BuildError
from tvm_flow.graph.integers import program_of
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name
from tvm_flow.numerics.integer_program import IntegerProgram
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.arm_npu import serialized, vgf_of
from tvm_flow.toolchain.zig import zig_cc

if TYPE_CHECKING:
    from tvm_flow.backends.npu.vendor import Lowered

NAME = "npu_arm"
_PRODUCTS = ("relax.matmul", "relax.nn.conv2d")


@dataclass(frozen=True)
class ArmBackend:
    """See the module."""

    @property
    def name(self) -> str:
        """See `tvm_flow.backends.base.Backend`."""
        return NAME

    @property
    def version(self) -> str:
        """See `tvm_flow.backends.base.Backend`."""
        return ""

    def offers(self, kernel: Kernel, target: TargetSpec) -> Offer | Refusal:  # noqa: ARG002
        """Kernels with a product that are one region of `tvm_flow.backends.npu.arm.operators`."""
        from tvm_flow.backends.npu.arm.operators import ARM
        from tvm_flow.backends.npu.byoc import region_of

        if (program := _integers(kernel)) is not None:
            return _block(program)
        if not any(op_name(value) in _PRODUCTS for _, value in bindings_of(kernel.function)):
            return Refusal("no product in it: moving it here would cost more than it saves", "fuse it with a product")
        region = region_of(ARM, kernel.function)
        if isinstance(region, Refusal):
            return region
        if not all(kernel.constant[position] for position in _constants(region)):
            return Refusal("a product of codes with weights that are no constant", "leave attention to the CPU")
        plain = region.arguments == tuple(range(len(kernel.constant)))
        return Offer(
            "TOSA, its own rounding" if region.arithmetic else "TOSA",
            choice=region.text,
            layouts=dict.fromkeys(region.weights, ARM.weights),
            arguments=() if plain else region.arguments,
            arithmetic=ARM.arithmetic[region.arithmetic] if region.arithmetic else None,
        )

    def joins(self, first: Any, second: Any) -> bool:
        """Linears whose only border is codes: a whole MLP. Floats between them would have to be equal bit for bit."""
        return dtype_of(first.body.body) == "int8" and op_name(next(iter(bindings_of(second)))[1]) in _PRODUCTS

    def compile(self, job: CompileJob, folder: Path) -> Artifacts:
        """One object of constant data: every kernel's VGF once, and a table of them for each segment."""
        called = {i: job.packed.program.calls[i].kernel for s in job.segments.values() for i in s.calls}
        blobs = {kernel: blob_of(job.packed, index, folder, job.prefix) for index, kernel in reversed(called.items())}
        tables = {row: [called[i] for i in segment.calls] for row, segment in job.segments.items()}
        source, output = folder / f"{job.prefix}npu.c", folder / f"{job.prefix}npu.o"
        text, payloads = blob_source(job.prefix, blobs, tables)
        source.write_text(text)
        zig_cc(("-std=c11", "-O0", "-fPIC", "-c", "-o", str(output), str(source)), "NPU blobs", job.target.zig_triple)
        return Artifacts((output,), payloads=payloads)

    def runtime_library(self) -> Path | None:
        """The emulated device; raises BuildError naming packages that are not installed."""
        return build_emulated_device()

    def board_library(self, zig_triple: str) -> Path:
        """See `tvm_flow.backends.base.BoardPart`."""
        return build_board_device(zig_triple)

    def board_headers(self) -> tuple[Path, ...]:
        """See `tvm_flow.backends.base.BoardPart`."""
        return (RUNTIME_PART / "tvm_flow_npu_arm.h",)


def _integers(kernel: Kernel) -> IntegerProgram | None:
    """Of a kernel that is a computation by TOSA's integer operators."""
    programs = [program_of(value) for _, value in bindings_of(kernel.function) if op_name(value)]
    return programs[0] if len(programs) == 1 else None


def _block(program: IntegerProgram) -> Offer | Refusal:
    """What it says is what the NPU computes, bit for bit."""
    if (refused := refused_integers(program)) is not None:
        return refused
    ops = IntegerGraph(baked=False)
    output = program.run(ops, [ops.graph.input(spec.shape, spec.dtype) for spec in program.inputs])
    return Offer("TOSA, a block in integers", choice=ops.graph.text(output))


def _constants(region: Lowered) -> set[int]:
    """Positions that must be constants."""
    made = (a.positions for a in region.arguments if isinstance(a, Made))
    return {*region.weights, *(position for positions in made for position in positions)}


def blob_of(packed: PackedProgram, index: int, folder: Path, prefix: str = "") -> Blob:
    """The VGF of call ``index``, beside its sources in ``folder``; raises BuildError naming the kernel."""
    program = packed.program
    call = program.calls[index]
    text = packed.placements[call.kernel].choice
    specs = [program.tensors[name] for name in (*call.args, call.output)]
    signature = [{"dtype": spec.dtype, "shape": list(spec.shape) or [1]} for spec in specs]
    try:
        graph = serialized(str(text))
        vgf = vgf_of(graph)
    except BuildError as error:
        raise BuildError(f"kernel {call.kernel}: {error}") from error
    (folder / f"{prefix}{call.kernel}.mlir").write_text(str(text))
    (folder / f"{prefix}{call.kernel}.tosa").write_bytes(graph)
    (folder / f"{prefix}{call.kernel}.vgf").write_bytes(vgf)
    return Blob(vgf, json.dumps(signature, separators=(",", ":")))
