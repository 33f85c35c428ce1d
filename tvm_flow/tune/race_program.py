"""Candidates of a kernel as one small program (runtime/emulate/race.c) that times them, and a running one.

Objects are compiled in forked processes, which share what this one has loaded: a worker is there in milliseconds, where
a new interpreter would import TVM for seconds. A candidate that ends its compiler ends that process alone.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import select
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.check.kernels import argument_head
from tvm_flow.graph.constants import Array
from tvm_flow.graph.types import PrimFunc
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.runtime_library import build_static_runtime
from tvm_flow.toolchain.zig import zig_cc
from tvm_flow.tune.entries import Json
from tvm_flow.tune.forked import running
from tvm_flow.tune.machine_state import machine_state
from tvm_flow.tune.rounds import LateError, NoTimeError

COMPILE_TIMEOUT = 120.0
"""Seconds for the candidates of a race, or for so many of more: LLVM takes one or two for each."""
USUAL = 8
"""Candidates of a race."""
_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-s")
_TIME, _OUTPUT = 0, 1
Make = Callable[[], PrimFunc]
_REQUEST = struct.Struct("<3I")


def compile_candidates(
    make: Mapping[str, Make], target: TargetSpec, folder: Path, workers: int, seconds: float = math.inf
) -> dict[str, str]:
    """Compile the kernel that each function of ``make`` gives as ``folder/NAME.o``, its symbol ``__tvm_ffi_NAME``.

    Returns why by the name of each that could not be made. Raises LateError where some are not made in ``seconds``:
    that is no fault of theirs.
    """
    names = list(make)
    shares = [names[i::workers] for i in range(workers) if names[i::workers]]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_compile, args=(share, make, target, folder)) for share in shares]
    usual = COMPILE_TIMEOUT * max(len(names) / USUAL, 1)
    deadline = time.monotonic() + min(usual, seconds)
    with running(processes):
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0))
        if seconds < usual and any(process.is_alive() for process in processes):
            raise LateError
    return {name: _why(folder, name) for name in names if not (folder / f"{name}.o").exists()}


def worker_start() -> float:
    """Seconds until a process that could compile is ready."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    start = time.monotonic()
    process = context.Process(target=theirs.send, args=("ready",))
    process.start()
    ours.recv()
    ready = time.monotonic() - start
    process.join()
    return ready


def _compile(names: Sequence[str], make: Mapping[str, Make], target: TargetSpec, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    for name in names:
        try:
            compile_object({name: make[name]().with_attr("global_symbol", name)}, target.tvm(), folder / f"{name}.o")
        except Exception as error:
            (folder / f"{name}.why").write_text(str(error)[:500])
    os._exit(0)  # nothing of the parent is to be flushed or closed twice


def _why(folder: Path, name: str) -> str:
    path = folder / f"{name}.why"
    return f"it did not compile: {path.read_text()}" if path.exists() else "its compiler ended or took too long"


def link_race(names: Sequence[str], target: TargetSpec, folder: Path, prefix: Sequence[str] = ()) -> tuple[str, ...]:
    """The command of a program with the objects of ``names``, in order, linked in ``folder``.

    ``prefix`` starts programs of another machine; then it is static. Raises BuildError with the compiler's words.
    """
    (folder / "race_table.c").write_text(race_table(names))
    triple = f"{target.architecture}-linux-musl" if prefix else f"{target.architecture}-linux-gnu.2.34"
    arguments = (
        *(*_FLAGS, *(["-static"] if prefix else []), f"-I{EMULATE}", "-o", str(folder / "race")),
        *(str(EMULATE / "race.c"), str(folder / "race_table.c")),
        *(*(str(folder / f"{name}.o") for name in names), str(build_static_runtime(triple)), "-lm", "-lpthread"),
    )
    zig_cc(arguments, "race", triple)
    return (*prefix, str(folder / "race"))


def race_table(names: Sequence[str]) -> str:
    """C of the table that race.h declares."""
    symbols = [f"__tvm_ffi_{name}" for name in names]
    externs = "".join(f"extern int {symbol}(void *, const void *, int32_t, void *);\n" for symbol in symbols)
    table = f"const race_kernel race_kernels[] = {{{', '.join(symbols)}}};\n"
    return f'#include "race.h"\n{externs}{table}const uint32_t race_count = {len(names)};\n'


@dataclass
class RaceProcess:
    """A program of `link_race` that runs; started at its first request, and anew after one that it did not survive."""

    command: Sequence[str]
    threads: int
    args: Sequence[Array]
    """Of the kernels, the last one the output."""

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def seconds(self, kernel: int, calls: int, timeout: float) -> float:
        """Of one call, measured over ``calls``; raises NoTimeError after ``timeout`` seconds or when it ends."""
        (nanoseconds,) = struct.unpack("<Q", self._ask(kernel, calls, _TIME, timeout))
        return float(nanoseconds) / 1e9 / calls

    def output(self, kernel: int, timeout: float) -> bytes:
        """The output's elements after one call; raises NoTimeError."""
        return self._ask(kernel, 1, _OUTPUT, timeout)

    def state(self) -> dict[str, Json]:
        """Of this machine, where it runs."""
        return machine_state()

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ask(self, kernel: int, calls: int, what: int, timeout: float) -> bytes:
        size = self.args[-1].nbytes if what == _OUTPUT else 8
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(_REQUEST.pack(kernel, calls, what))
            process.stdin.flush()
            data = self._read(process, size, time.monotonic() + timeout)
        except BrokenPipeError:
            data = b""
        if data is None:
            self.close()
            raise NoTimeError(f"it gave no answer in {timeout:.1f} s")
        if len(data) != size:
            raise NoTimeError(self._end())
        return data

    def _start(self) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen((*self.command, str(self.threads)), stdin=pipe, stdout=pipe, stderr=pipe)
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<I", len(self.args)))
        for array in self.args:
            self._process.stdin.write(argument_head(array) + array.tobytes())
        return self._process

    def _read(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes | None:
        """``size`` bytes, fewer when it ended, None when the time is up."""
        assert process.stdout is not None
        data = bytearray()
        while len(data) < size:
            ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                return None
            chunk = os.read(process.stdout.fileno(), size - len(data))
            if not chunk:
                break
            data += chunk
        return bytes(data)

    def _end(self) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.poll()
        self._process.kill()
        _, words = self._process.communicate()
        self._process, said = None, words.decode(errors="replace")[-200:]
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        return f"it ended its process: {how} {said}".rstrip()
