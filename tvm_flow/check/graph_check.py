"""The check of a graph that is a library by itself: one run, followed call by call.

The kernels, the plan and the function that strings them together are linked into a program of their own
(runtime/emulate/graph_trace.c), which runs on this machine or under qemu and shows what every call read and wrote.
"""

from __future__ import annotations

import ctypes
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from tvm_flow.check.calls import Array, ExactnessReport, require_same_bits
from tvm_flow.check.follow import FollowedRuns, Run
from tvm_flow.check.machines import Machine
from tvm_flow.check.parts import Part
from tvm_flow.check.sampling import CallCheck
from tvm_flow.check.sums import SumsProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.program import TensorSpec
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import TracedCall
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE, INCLUDE
from tvm_flow.toolchain.zig import zig_cc

EMBED = INCLUDE.parent / "embed"
SOURCES = (EMBED / "graph_run.c", INCLUDE.parent / "src" / "cpu.c", INCLUDE.parent / "src" / "error.c")
"""C that a graph's library is linked with beside its own."""
_TRACE = EMULATE / "graph_trace.c"
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-s")
_HEAD, _END = struct.Struct("<II"), 2**32 - 1


class GraphCheck(FollowedRuns):
    """One run of ``library`` on ``arrays``, in the order of the graph's inputs."""

    part = Part.GENERATE

    def __init__(self, library: GroupLibrary, arrays: Sequence[Array], compare: CallCheck) -> None:
        self.library, self.arrays = library, tuple(arrays)
        self.outputs: tuple[Array, ...] = ()
        super().__init__({(0, 0): (library, 0)}, [(0, 0)], ExactnessReport(), compare)

    def where(self, _step: int, _branch: int) -> str:
        """The one run in words."""
        return "graph"

    def inputs(self, _step: int, _branch: int) -> tuple[Array, ...]:
        """What the graph is given."""
        return self.arrays

    def end_of_run(self, _run: Run, _output: Array) -> None:
        """Keep the outputs."""
        self.outputs = tuple(self.tensors[name] for name in self.library.packed.program.outputs)

    def require_result(self, _result: Floats) -> None:
        """There may be several, which `require_outputs` compares."""

    def require_outputs(self, got: Sequence[Array]) -> None:
        """Raise BitExactError unless ``got`` is what the last calls wrote, and no call is missing."""
        self.finish(np.empty(0, np.float32))
        for row, (expected, output) in enumerate(zip(self.outputs, got, strict=True)):
            require_same_bits(f"output {row}", expected, output)


@dataclass(frozen=True)
class TraceProgram:
    """A linked program and what starts it."""

    command: tuple[str, ...]
    where: str


def link_trace(parts: Sequence[Path], machine: Machine, target: TargetSpec, folder: Path) -> TraceProgram:
    """The program that runs a graph, whose own C and objects are ``parts``, on ``machine``; raises BuildError.

    ``folder`` holds the weights.
    """
    emulated = bool(machine.command)
    triple = f"{target.architecture}-linux-musl" if emulated else target.zig_triple
    program = folder / "graph_trace"
    arguments = (
        *(*_FLAGS, *target.c_flags, *(["-static"] if emulated else []), f"-I{folder}", f"-I{EMBED}", f"-I{INCLUDE}"),
        *("-o", str(program), *map(str, (*parts, *SOURCES, _TRACE)), "-lm"),
    )
    zig_cc(arguments, "the program that checks a graph", triple)
    return TraceProgram((*machine.command, str(program)), machine.describe())


def run_graph_checked(
    library: GroupLibrary, inputs: Sequence[Array], program: TraceProgram, sums: SumsProgram | None
) -> tuple[tuple[Array, ...], ExactnessReport]:
    """Outputs of ``library`` for ``inputs``, every kernel call compared with the reference, and what was compared.

    Raises BitExactError, or BuildError with the program's own words when it fails.
    """
    with sums.start() if sums else nullcontext() as adding:
        check = GraphCheck(library, inputs, CallCheck(None, adding))
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
            given.write(b"".join(np.ascontiguousarray(array).tobytes() for array in inputs))
            given.seek(0)
            with subprocess.Popen(program.command, stdin=given, stdout=subprocess.PIPE, stderr=errors) as process:
                try:
                    assert process.stdout is not None
                    outputs = _follow(process.stdout, library, check)
                    broken = outputs is None or process.wait() != 0
                finally:
                    process.kill()
            if broken or outputs is None:
                raise BuildError(_failed(program, process, errors))
        check.require_outputs(outputs)
    return outputs, check.report


def _follow(stream: IO[bytes], library: GroupLibrary, check: GraphCheck) -> tuple[Array, ...] | None:
    """The outputs at the end of ``stream``; None when it breaks off."""
    plan, program = library.plan, library.packed.program
    while len(head := stream.read(_HEAD.size)) == _HEAD.size:
        call, count = _HEAD.unpack(head)
        if call == _END:
            return _tensors(stream, [program.tensors[name] for name in program.outputs])
        if call >= len(plan.calls) or count != len(plan.calls[call].args):
            return None
        args = _tensors(stream, [plan.tensors[row].spec for row in plan.calls[call].args])
        if args is None:
            return None
        check.see(TracedCall(0, 0, call, plan.kernels[plan.calls[call].kernel], args))
    return None


def _tensors(stream: IO[bytes], specs: Sequence[TensorSpec]) -> tuple[Array, ...] | None:
    found = []
    for spec in specs:
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        data = stream.read(size := prod(spec.shape) * dtype.itemsize)
        if len(data) != size:
            return None
        found.append(np.frombuffer(data, dtype).reshape(spec.shape))
    return tuple(found)


def _failed(program: TraceProgram, process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    errors.seek(0)
    words = errors.read().decode(errors="replace").strip()[-500:] or "it said nothing"
    return (
        f"{program.where}: expected the compiled graph to run to its end, got exit code {process.returncode}: {words}; "
        "report this graph and target"
    )


def run_function(library: Path, name: str, inputs: Sequence[Array], outputs: Sequence[TensorSpec]) -> list[Array]:
    """What ``NAME_run`` of the shared ``library`` gives in this process; raises BuildError when it fails."""
    run = ctypes.CDLL(str(library))[f"{name}_run"]
    given = [np.ascontiguousarray(array) for array in inputs]
    made = [np.empty(spec.shape, spec.dtype) for spec in outputs]
    code = run(*(_pointers(arrays) for arrays in (given, made)), None)
    if code != 0:
        raise BuildError(f"{library}: expected {name}_run to return 0, got {code}; report this graph and target")
    return made


def _pointers(arrays: Sequence[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * max(len(arrays), 1))(*(array.ctypes.data for array in arrays))
