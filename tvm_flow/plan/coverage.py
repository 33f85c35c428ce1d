"""What ran where, before anything runs: multiply-adds and bytes of a program by device, refusals, and borders.

Counted in work and not in nodes: a backend that takes 470 of 476 nodes may have left the six that matter. A call's
bytes are those that it reads and writes. A kernel is *refused* by every backend that the target names before the one
that runs it; its work is counted once for each of those, under what it said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm_flow.backends.packed import CPU, PackedProgram, Refusal
from tvm_flow.errors import BuildError
from tvm_flow.graph.integers import program_of
from tvm_flow.graph.lifted import bindings_of, op_name, shape_of
from tvm_flow.plan.borders import spread
from tvm_flow.plan.static_plan import tensor_bytes


@dataclass(frozen=True)
class Work:
    """Of some calls: how many, their integer and float multiply-adds, and the bytes that they read and write."""

    calls: int = 0
    macs: int = 0
    bytes: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.calls + other.calls, self.macs + other.macs, self.bytes + other.bytes)

    def __str__(self) -> str:
        return f"{self.calls} call{'' if self.calls == 1 else 's'}, {self.macs} MACs, {self.bytes} bytes"


@dataclass(frozen=True)
class Coverage:
    """Work of one program: in ``devices`` by who runs it, in ``refused`` by who did not and why.

    ``crossings`` are the copies between devices in the prologue and one step, ``crossing_bytes`` their sizes.
    """

    devices: dict[str, Work]
    refused: dict[tuple[str, Refusal], Work]
    crossings: int = 0
    crossing_bytes: int = 0

    @property
    def total(self) -> Work:
        """Of all devices."""
        return sum(self.devices.values(), Work())

    def share(self, device: str) -> float:
        """Of the multiply-adds; 0 for a program without any."""
        return self.devices.get(device, Work()).macs / max(self.total.macs, 1)

    @property
    def accelerated(self) -> float:
        """Share of the multiply-adds that another device than the CPU runs."""
        return sum(self.share(device) for device in self.devices if device != CPU)


def coverage(packed: PackedProgram) -> Coverage:
    """That of ``packed``."""
    program = packed.program
    sizes = {name: tensor_bytes(spec) for name, spec in program.tensors.items()}
    macs = {name: kernel_macs(function) for name, function in program.kernels.items()}
    devices: dict[str, Work] = {}
    refused: dict[tuple[str, Refusal], Work] = {}
    for call in program.calls:
        work = Work(1, macs[call.kernel], sum(sizes[name] for name in (*call.args, call.output)))
        device = packed.device_of(call.kernel)
        devices[device] = devices.get(device, Work()) + work
        placement = packed.placements.get(call.kernel)
        for said in placement.refusals if placement else ():
            refused[said] = refused.get(said, Work()) + work
    copies = spread(packed).copies if set(devices) - {CPU} else ()
    return Coverage(devices, refused, len(copies), sum(sizes[copy.tensor] for copy in copies))


def kernel_macs(function: Any) -> int:
    """Multiply-adds of the products and convolutions in a kernel's Relax function."""
    return sum(_macs(var, value) for var, value in bindings_of(function))


def _macs(var: Any, value: Any) -> int:
    if op_name(value) == "relax.matmul":
        return prod(shape_of(var)) * shape_of(value.args[0])[-1]
    if op_name(value) == "relax.nn.conv2d":
        return prod(shape_of(var)) * prod(shape_of(value.args[1])[1:])
    program = program_of(value)
    return 0 if program is None else program.macs


def coverage_lines(function: str, found: Coverage) -> Iterator[str]:
    """``found`` for a person; nothing where the CPU alone was asked."""
    if not found.refused and set(found.devices) <= {CPU}:
        return
    for device, work in found.devices.items():
        yield f"{function}: {device} runs {found.share(device):.1%} of the MACs: {work}"
    for (backend, refusal), work in sorted(found.refused.items(), key=lambda item: -item[1].macs):
        remedy = f"; {refusal.remedy}" if refusal.remedy else ""
        yield f"{function}: {backend} refused {work}: {refusal.reason}{remedy}"
    yield f"{function}: {found.crossings} crossings, {found.crossing_bytes} bytes across borders"


def require_coverage(function: str, found: Coverage, least: float) -> None:
    """Raise BuildError, with what was refused, when less than the share ``least`` of the MACs left the CPU."""
    if found.accelerated < least:
        said = "; ".join(coverage_lines(function, found)) or f"{function}: no backend but the CPU was asked"
        raise BuildError(
            f"{function}: expected at least {least:.1%} of the MACs on other devices than the CPU, got "
            f"{found.accelerated:.1%}; {said}; name another backend in the target, or lower --require-coverage"
        )
