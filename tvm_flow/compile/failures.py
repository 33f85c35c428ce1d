"""Which kernel a failed build was about, and the evidence of it; see `tvm_flow.check.evidence`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.backends.place import place
from tvm_flow.check.evidence import Failure, keep_evidence, with_folder
from tvm_flow.check.follow import FailedCall
from tvm_flow.check.kernels import scheduled_kernel
from tvm_flow.errors import BitExactError, BuildError, TvmFlowError
from tvm_flow.importer.step_groups import StepGroup
from tvm_flow.lower.partition import partition
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec


def kept_build(error: BuildError, group: StepGroup, target: TargetSpec, output: Path) -> BuildError | BitExactError:
    """The error to raise for ``error`` of `build_library`, with evidence beside ``output`` when a kernel did it."""
    try:
        packed = place(partition(group.graph), target)
        kernel = _kernel_of(error, packed, target)
    except TvmFlowError:
        return error
    if kernel is None:
        return error
    return with_folder(error, keep_evidence(output, Failure(error, target, packed, kernel)))


def kept_check(
    error: BitExactError, libraries: Sequence[GroupLibrary], part: str, target: TargetSpec, output: Path
) -> BuildError | BitExactError:
    """The error to raise for ``error`` of the check of ``part``, whose ``libraries`` these are, with its evidence."""
    if isinstance(error, FailedCall):
        failure = Failure(error, target, error.library.packed, error.seen.kernel, error)
    else:
        failure = Failure(error, target, libraries[0].packed, part)
    return with_folder(error, keep_evidence(output, failure))


def _kernel_of(error: BuildError, packed: PackedProgram, target: TargetSpec) -> str | None:
    """The kernel that ``error`` names, or the first that cannot be compiled alone; None for another fault."""
    named = re.match(r"kernel (\w+):", str(error))
    if named and named[1] in packed.program.kernels:
        return named[1]
    if error.__cause__ is None:  # a linker's or a plan's, not what TVM raised over a kernel
        return None
    with temporary_folder("kernel") as folder:
        for kernel in packed.kernels_of(CPU):
            try:
                compile_object({kernel: scheduled_kernel(packed, kernel)}, target.tvm(), folder / "kernel.o")
            except BuildError:
                return kernel
    return None
