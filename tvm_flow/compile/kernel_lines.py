"""What the compile command says of kernels: what other devices make of theirs, and of the CPU's what they run on.

Of the CPU's are said their instructions, what is slow, and what a target leaves unused. Why a kernel is not on a device
that the target prefers is said in `tvm_flow.plan.coverage`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tvm_flow.backends.cpu.chosen import ChosenKernel, chosen_kernels, report, unused
from tvm_flow.backends.packed import CPU
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.target.features import offered
from tvm_flow.target.inventory import LOCAL_NAME
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.applied import tuning_lines

_DETECTED = ("host", LOCAL_NAME)
"""These list all that there is, whatever the name of the CPU promises."""


def kernel_lines(libraries: Sequence[GroupLibrary], target: TargetSpec) -> list[str]:
    """Kernels that are alike on a line, over all ``libraries``; then faster instructions that ``target`` leaves out."""
    lines = _elsewhere(libraries) + report(pair for library in libraries for pair in _counted(library, target))
    faster = unused(target.features, offered(target.triple, target.cpu))
    if faster and target.name not in _DETECTED:
        lines.append(f"products would run on {faster} if target {target.name} listed all features of a {target.cpu}")
    return lines + tuning_lines((library.tuning, list(library.packed.program.kernels)) for library in libraries)


def _counted(library: GroupLibrary, target: TargetSpec) -> Iterator[tuple[ChosenKernel, int]]:
    calls = Counter(call.kernel for call in library.packed.program.calls)
    chosen = chosen_kernels(library.packed, target.features)
    return ((kernel, calls[kernel.kernel]) for kernel in chosen if library.packed.device_of(kernel.kernel) == CPU)


def _elsewhere(libraries: Sequence[GroupLibrary]) -> list[str]:
    calls: Counter[tuple[str, str]] = Counter()
    for packed in (library.packed for library in libraries):
        for call in packed.program.calls:
            placement = packed.placements.get(call.kernel)
            if placement is not None and placement.device != CPU:
                calls[placement.device, placement.implementation] += 1
    return [f"{device}: {made}, {n} call{'s' if n > 1 else ''}" for (device, made), n in calls.items()]
