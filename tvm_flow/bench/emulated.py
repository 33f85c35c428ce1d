"""Executed AArch64 instructions of a call of our kernel: int8 X and packed W to int32, as TVM and LLVM compile it."""

from __future__ import annotations

from tvm.target import Target

from tvm_flow.backends.cpu import Isa
from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.bench.executed import compile_c, executed
from tvm_flow.bench.shapes import Shape
from tvm_flow.scratch import temporary_folder
from tvm_flow.toolchain.link import EMULATE

# Slices run on one thread.
_PROGRAM = r"""
#include <unistd.h>
#include "no_services.h"
extern int __tvm_ffi_g(void *, const flow_any *, int32_t, flow_any *);
static _Alignas(64) int8_t x[%(m)d * %(k)d], w[%(k)d * %(n)d];
static _Alignas(64) int32_t c[%(m)d * %(n)d];
int main(void) {
  int64_t xs[] = {%(m)d, %(k)d}, ws[] = {%(n)d / %(columns)d, %(k)d / %(depth)d, %(columns)d, %(depth)d};
  int64_t cs[] = {%(m)d, %(n)d};
  flow_dltensor tx = tensor_of(x, 0, 8, 2, xs), tw = tensor_of(w, 0, 8, 4, ws), tc = tensor_of(c, 0, 32, 2, cs);
  flow_any args[3] = {argument(&tx), argument(&tw), argument(&tc)}, result = {0};
  int failed = __tvm_ffi_g(0, args, 3, &result);
  getppid();
  failed |= __tvm_ffi_g(0, args, 3, &result);
  getppid();
  return failed;
}
"""


def instructions_per_mac(isa: Isa, llvm_cpu: str, qemu_cpu: str, shape: Shape) -> float:
    """Of the second call of the kernel for ``shape``, compiled for ``llvm_cpu``; raises as `executed` does."""
    with temporary_folder("count") as folder:
        target = Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": llvm_cpu})
        compile_object({"g": gemm("g", shape.m, shape.k, shape.n, isa)}, target, folder / "g.o")
        sizes = {"m": shape.m, "k": shape.k, "n": shape.n, "columns": isa.columns, "depth": isa.depth}
        flags = ("-static", f"-I{EMULATE}", str(folder / "g.o"))
        program = compile_c("aarch64-linux-musl", _PROGRAM % sizes, folder / "count", *flags)
        return executed([str(program)], qemu_cpu, folder) / shape.macs
