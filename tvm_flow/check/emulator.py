"""Running a bundle for another architecture under qemu, every kernel call of it shown to a callback.

The program is static: the bundle's kernels, plans and runtime, and runtime/emulate/trace.c, which streams what each
kernel read and wrote. Kernels and plans call no C library, so what is checked here is what the bundle's libraries hold.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from tvm_flow.check.call_stream import follow_calls
from tvm_flow.check.parts import Part
from tvm_flow.errors import BuildError
from tvm_flow.plan.folds import Floats
from tvm_flow.run import TracedCall
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.runtime_library import RUNTIME

TRACE_PROGRAM = RUNTIME / "emulate" / "trace.c"
EMULATED = ("aarch64",)
"""Architectures whose features the runtime can ask qemu for."""


@dataclass(frozen=True)
class Emulator:
    """qemu's user emulation of one core; ``cpu`` is qemu's name for it."""

    program: Path
    cpu: str

    @property
    def command(self) -> tuple[str, ...]:
        """What a program of the architecture is started with."""
        return (str(self.program), "-cpu", self.cpu)

    def describe(self) -> str:
        """For reports."""
        return f"{self.program.name} -cpu {self.cpu}"


def find_emulator(target: TargetSpec) -> Emulator:
    """qemu as ``target``'s own core where it models that one, else as a core that has everything.

    Raises BuildError when qemu is not installed or the architecture is one that this project cannot check under it.
    """
    machine = target.triple.split("-")[0]
    if machine not in EMULATED:
        raise BuildError(
            f"target {target.name}: expected an architecture that can be checked here, this machine's own or "
            f"{', '.join(EMULATED)} under qemu, got {target.triple}; no bundle is written unchecked: compile on such "
            "a machine, or with --check none"
        )
    found = shutil.which(f"qemu-{machine}-static") or shutil.which(f"qemu-{machine}")
    if found is None:
        raise BuildError(
            f"target {target.name}: expected qemu-{machine} to check its kernels with, got none; no bundle is written "
            "unchecked: sudo apt-get install qemu-user-static, or compile with --check none"
        )
    models = subprocess.run([found, "-cpu", "help"], capture_output=True, text=True, check=False).stdout.split()
    return Emulator(Path(found), target.cpu if target.cpu in models else "max")


@dataclass(frozen=True)
class EmulatedRun:
    """``program`` on the golden input of ``bundle`` with so many ``threads``, under ``emulator``."""

    emulator: Emulator
    program: Path
    bundle: Path
    threads: int = 0
    part: Part = Part.GENERATE


def run_emulated(run: EmulatedRun, on_call: Callable[[TracedCall], object], on_step: Callable[[], object]) -> Floats:
    """Latents, flat, that ``run`` makes; of `Part.DECODE` frames of the golden latents. What a callback raises ends it.

    Raises BuildError with the program's own words when it fails, or its stream breaks off.
    """
    with _started(run) as records:
        return follow_calls(records, on_call, on_step)


@contextmanager
def _started(run: EmulatedRun) -> Iterator[_Records]:
    command = [*run.emulator.command, str(run.program), str(run.bundle), str(run.threads), run.part]
    with (
        tempfile.TemporaryFile() as errors,  # a pipe that nobody reads could fill up
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            assert process.stdout is not None
            yield _Records(run.emulator, process, process.stdout, errors)
        finally:
            process.kill()


@dataclass(frozen=True)
class _Records:
    """The stream of a running program."""

    emulator: Emulator
    process: subprocess.Popen[bytes]
    stream: IO[bytes]
    errors: IO[bytes]

    def read(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) != count:
            self.fail("the end of its stream")
        return data

    def finish(self) -> None:
        """Wait for the end, which must be a success too."""
        if self.process.wait() != 0:
            self.fail("a failure after the last step")

    def fail(self, got: str) -> NoReturn:
        self.stream.close()  # ends a program that still writes
        code = self.process.wait()
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip()[-2000:]
        raise BuildError(
            f"{self.emulator.describe()}: expected the bundle to run to its end, got {got}, exit code {code}: "
            f"{words or 'it said nothing'}; report this target, or compile on such a machine"
        )
