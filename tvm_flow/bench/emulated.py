"""Executed AArch64 instructions of a call of our kernel: int8 X and packed W to int32, as TVM and LLVM compile it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tvm.target import Target

from tvm_flow.backends.cpu import Isa
from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.bench.executed import compile_c, executed
from tvm_flow.bench.shapes import Shape

# The packed convention of TVM 0.27: a TVMFFIAny of type 7 holds a DLTensor pointer. Slices run on one thread.
_PROGRAM = r"""
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
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
int main(void) {
  int64_t xs[] = {%(m)d, %(k)d}, ws[] = {%(n)d / %(columns)d, %(k)d / %(depth)d, %(columns)d, %(depth)d};
  int64_t cs[] = {%(m)d, %(n)d};
  tensor tx = {x, {1, 0}, 2, 0, 8, 1, xs, 0, 0}, tw = {w, {1, 0}, 4, 0, 8, 1, ws, 0, 0};
  tensor tc = {c, {1, 0}, 2, 0, 32, 1, cs, 0, 0};
  any args[3] = {{7, 0, &tx}, {7, 0, &tw}, {7, 0, &tc}}, result = {0};
  int failed = __tvm_ffi_g(0, args, 3, &result);
  getppid();
  failed |= __tvm_ffi_g(0, args, 3, &result);
  getppid();
  return failed;
}
"""


def instructions_per_mac(isa: Isa, llvm_cpu: str, qemu_cpu: str, shape: Shape) -> float:
    """Of the second call of the kernel for ``shape``, compiled for ``llvm_cpu``; raises as `executed` does."""
    with tempfile.TemporaryDirectory(prefix="tvm-flow-count-") as name:
        folder = Path(name)
        target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": llvm_cpu})
        compile_object({"g": gemm("g", shape.m, shape.k, shape.n, isa)}, target, folder / "g.o")
        sizes = {"m": shape.m, "k": shape.k, "n": shape.n, "columns": isa.columns, "depth": isa.depth}
        program = compile_c("aarch64-linux-musl", _PROGRAM % sizes, folder / "count", "-static", str(folder / "g.o"))
        return executed([str(program)], qemu_cpu, folder) / shape.macs
