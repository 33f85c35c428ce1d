"""Runs a compiled AArch64 kernel under qemu: a static program around it, operands and result as files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tvm
from tvm.target import Target

from tvm_flow.backends.cpu import Isa
from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.backends.cpu.gemm import gemm

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
Array = npt.NDArray[Any]

# The packed convention of TVM 0.27: a TVMFFIAny of type 7 holds a DLTensor pointer. Parallel loops run inline.
DRIVER = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
typedef struct { void *data; int32_t device[2]; int32_t ndim; uint8_t code, bits; uint16_t lanes;
                 int64_t *shape, *strides; uint64_t offset; } tensor;
typedef struct { int32_t type, pad; tensor *value; } any;
extern int __tvm_ffi_g(void *, const any *, int32_t, any *);
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t n) {
  for (int32_t i = 0; i < n; i++) if (parts[i]) fputs(parts[i], stderr);
  fputs(kind, stderr);
}
static int launch(int (*task)(int, void *, void *), void *data, int n) {
  struct { void *sync; int32_t n; } group = {0, n > 0 ? n : 2};
  for (int i = 0; i < group.n; i++) if (task(i, &group, data)) return -1;
  return 0;
}
int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int) = launch;
static void *allocate(int t, int i, uint64_t n, int c, int b) { (void)t, (void)i, (void)c, (void)b; return malloc(n); }
static int release(int t, int i, void *p) { (void)t, (void)i; free(p); return 0; }
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = release;
static tensor make(uint8_t bits, int ndim, int64_t *shape) {
  size_t bytes = bits / 8;
  for (int i = 0; i < ndim; i++) bytes *= (size_t)shape[i];
  return (tensor){aligned_alloc(64, (bytes + 63) / 64 * 64), {1, 0}, ndim, 0, bits, 1, shape, 0, 0};
}
static int transfer(const char *path, const char *mode, tensor *t, size_t bytes) {
  FILE *f = fopen(path, mode);
  size_t done = !f ? 0 : *mode == 'r' ? fread(t->data, 1, bytes, f) : fwrite(t->data, 1, bytes, f);
  return !f || fclose(f) || done != bytes;
}
int main(int argc, char **argv) {
  (void)argc;
  int64_t v[7];
  for (int i = 0; i < 7; i++) v[i] = atoll(argv[4 + i]);
  int64_t xs[] = {v[0], v[1]}, ws[] = {v[3], v[4], v[5], v[6]}, cs[] = {v[0], v[2]};
  tensor x = make(8, 2, xs), w = make(8, 4, ws), c = make(32, 2, cs);
  if (transfer(argv[1], "r", &x, (size_t)(v[0] * v[1]))) return 3;
  if (transfer(argv[2], "r", &w, (size_t)(v[3] * v[4] * v[5] * v[6]))) return 4;
  any args[3] = {{7, 0, &x}, {7, 0, &w}, {7, 0, &c}}, result = {0};
  if (__tvm_ffi_g(0, args, 3, &result)) return 5;
  return transfer(argv[3], "w", &c, (size_t)(v[0] * v[2] * 4)) ? 6 : 0;
}
"""


def run_gemm(folder: Path, isa: Isa, cpu: str, x: Array, w: Array) -> Array:
    """int32 [M, N] of the kernel for ``isa`` compiled for LLVM's ``cpu``, on qemu's core that has everything."""
    (m, k), n = x.shape, w.shape[1]
    target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": cpu})
    compile_object({"g": gemm("g", m, k, n, isa)}, target, folder / "g.o")
    (folder / "driver.c").write_text(DRIVER)
    program = folder / "program"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-O1", "-static"]
    command += ["-o", str(program), str(folder / "driver.c"), str(folder / "g.o")]
    subprocess.run(command, check=True, capture_output=True)
    packed = isa.layout.pack(w)
    paths = [folder / name for name in ("x", "w", "c")]
    paths[0].write_bytes(x.tobytes())
    paths[1].write_bytes(packed.tobytes())
    sizes = [str(size) for size in (m, k, n, *packed.shape)]
    assert QEMU is not None
    subprocess.run([QEMU, "-cpu", "max", str(program), *map(str, paths), *sizes], check=True, capture_output=True)
    return np.fromfile(paths[2], np.int32).reshape(m, n)


def assembly(isa: Isa, cpu: str, m: int, k: int, n: int) -> str:
    """What LLVM makes of the kernel."""
    target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": cpu})
    return str(tvm.tirx.build(tvm.IRModule({"g": gemm("g", m, k, n, isa)}), target=target).inspect_source("asm"))
