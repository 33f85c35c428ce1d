"""Executed AArch64 instructions of one kernel call, counted under qemu-user.

Debian's qemu-user-static has no plugins. With ``-singlestep -d nochain,exec`` it translates every instruction on its
own and logs one "Trace" line for each that it executes. A static program calls the kernel once, then another run of it
calls it twice; start-up is the same in both, so that

    instructions of a call = lines of the second run - lines of the first
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tvm.target import Target

from tvm_flow.bench.shapes import Shape
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.kernels import Isa
from tvm_flow.kernels.gemm import gemm
from tvm_flow.lower.compile import compile_object

# The packed convention of TVM 0.27: a TVMFFIAny of type 7 holds a DLTensor pointer. Slices run on one thread.
_PROGRAM = r"""
#include <stdint.h>
#include <stdlib.h>
typedef struct { void *data; int32_t device[2]; int32_t ndim; uint8_t code, bits; uint16_t lanes;
                 int64_t *shape, *strides; uint64_t offset; } tensor;
typedef struct { int32_t type, pad; tensor *value; } any;
extern int __tvm_ffi_g(void *, const any *, int32_t, any *);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n) {
  (void)kind, (void)parts, (void)n;
}
static void *allocate(int t, int i, uint64_t n, int c, int b) { (void)t, (void)i, (void)c, (void)b; return malloc(n); }
static int release(int t, int i, void *p) { (void)t, (void)i; free(p); return 0; }
static int launch(int (*task)(int, void *, void *), void *data, int n) {
  struct { void *sync; int32_t n; } group = {0, n > 0 ? n : 1};
  for (int i = 0; i < group.n; i++) if (task(i, &group, data)) return -1;
  return 0;
}
int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;
static _Alignas(64) int8_t x[%(m)d * %(k)d], w[%(k)d * %(n)d];
static _Alignas(64) int32_t c[%(m)d * %(n)d];
int main(int argc, char **argv) {
  int64_t xs[] = {%(m)d, %(k)d}, ws[] = {%(n)d / %(columns)d, %(k)d / %(depth)d, %(columns)d, %(depth)d};
  int64_t cs[] = {%(m)d, %(n)d};
  tensor tx = {x, {1, 0}, 2, 0, 8, 1, xs, 0, 0}, tw = {w, {1, 0}, 4, 0, 8, 1, ws, 0, 0};
  tensor tc = {c, {1, 0}, 2, 0, 32, 1, cs, 0, 0};
  any args[3] = {{7, 0, &tx}, {7, 0, &tw}, {7, 0, &tc}}, result = {0};
  int failed = argc != 2;
  for (int i = atoi(argv[1]); i > 0; i--) failed |= __tvm_ffi_g(0, args, 3, &result);
  return failed;
}
"""


def find_qemu() -> str | None:
    """qemu-aarch64 for programs, if it is installed."""
    return shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


def instructions_per_mac(isa: Isa, cpu: str, k: int) -> float:
    """For a slice of two tiles of rows and two of columns over the whole of K, which larger products repeat.

    Raises ConfigError when qemu is missing, BuildError when the program does not compile or fails.
    """
    qemu = find_qemu()
    if qemu is None:
        raise ConfigError("qemu-aarch64: expected it on PATH, found none; apt-get install qemu-user-static")
    shape = Shape(2 * isa.rows, k, 2 * isa.columns)
    with tempfile.TemporaryDirectory(prefix="tvm-flow-count-") as name:
        folder = Path(name)
        target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": cpu})
        compile_object({"g": gemm("g", shape.m, shape.k, shape.n, isa)}, target, folder / "g.o")
        sizes = {"m": shape.m, "k": shape.k, "n": shape.n, "columns": isa.columns, "depth": isa.depth}
        (folder / "count.c").write_text(_PROGRAM % sizes)
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-O1", "-static"]
        _run([*command, "-o", str(folder / "count"), str(folder / "count.c"), str(folder / "g.o")])
        once, twice = (_executed(qemu, folder, calls) for calls in (1, 2))
    return (twice - once) / shape.macs


def _executed(qemu: str, folder: Path, calls: int) -> int:
    log = folder / f"log{calls}"
    options = ["-cpu", "max", "-singlestep", "-d", "nochain,exec", "-D", str(log)]
    _run([qemu, *options, str(folder / "count"), str(calls)])
    with log.open("rb") as lines:
        return sum(line.startswith(b"Trace") for line in lines)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(
            f"{command[0]}: expected it to succeed, got exit code {done.returncode}: {done.stderr[-1000:]}"
        )
