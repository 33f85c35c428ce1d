"""Executed AArch64 instructions of onnxruntime's product of the same int8 matrices: MatMulInteger, int32 out.

This is the like of our kernel: int8 X times constant int8 W, which onnxruntime packs when the session is made, to exact
int32; neither side dequantizes or requantizes. Every optimisation is on, one thread. The result is compared with exact
integers, so a miscalled function of the C interface cannot pass for a fast one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper, save

from tvm_flow.bench.executed import compile_c, executed
from tvm_flow.bench.shapes import Shape
from tvm_flow.bench.wheel import CACHE, onnxruntime_library, write_root
from tvm_flow.errors import BuildError

# OrtApi is a struct of function pointers that only grows at its end; these are the places in it, from
# onnxruntime_c_api.h, of the functions named. Types: int8 is 3; the first memory type and allocator are 0 and 0.
_PROGRAM = r"""
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
enum { GetErrorMessage = 2, CreateEnv = 3, DisableTelemetryEvents = 6, CreateSession = 7, Run = 9,
       CreateSessionOptions = 10, SetSessionGraphOptimizationLevel = 23, SetIntraOpNumThreads = 24,
       CreateTensorWithDataAsOrtValue = 49, GetTensorMutableData = 51, CreateCpuMemoryInfo = 69 };
typedef struct { void *const *(*get_api)(uint32_t); const char *(*version)(void); } base;
static void *const *api;
static void check(void *status) {
  if (!status) return;
  fprintf(stderr, "%%s\n", ((const char *(*)(void *))api[GetErrorMessage])(status));
  _Exit(3);
}
#define CALL(name, types) check(((void *(*) types)api[name])
static int8_t x[%(m)d * %(k)d];
int main(int argc, char **argv) {  // library, model, x, result
  void *library = argc == 5 ? dlopen(argv[1], RTLD_NOW) : 0;
  const base *(*get_base)(void) = library ? (const base *(*)(void))dlsym(library, "OrtGetApiBase") : 0;
  FILE *file = get_base ? fopen(argv[3], "rb") : 0;
  if (!file || fread(x, 1, sizeof x, file) != sizeof x || fclose(file)) return 2;
  api = get_base()->get_api(1);
  void *env, *options, *session, *memory, *in, *out = 0, *result;
  CALL(CreateEnv, (int, const char *, void **))(3, "bench", &env));
  CALL(DisableTelemetryEvents, (void *))(env));
  CALL(CreateSessionOptions, (void **))(&options));
  CALL(SetSessionGraphOptimizationLevel, (void *, int))(options, 99));
  CALL(SetIntraOpNumThreads, (void *, int))(options, 1));
  CALL(CreateSession, (void *, const char *, void *, void **))(env, argv[2], options, &session));
  CALL(CreateCpuMemoryInfo, (int, int, void **))(0, 0, &memory));
  const int64_t shape[] = {%(m)d, %(k)d};
  CALL(CreateTensorWithDataAsOrtValue, (void *, void *, size_t, const int64_t *, size_t, int, void **))
      (memory, x, sizeof x, shape, 2, 3, &in));
  const char *inputs[] = {"x"}, *outputs[] = {"y"};
  for (int i = 0; i < 2; i++) {  // the output of the first is given to the second, which allocates nothing
    if (i) getppid();
    CALL(Run, (void *, void *, const char **, void **, size_t, const char **, size_t, void **))
        (session, 0, inputs, &in, 1, outputs, 1, &out));
  }
  getppid();
  CALL(GetTensorMutableData, (void *, void **))(out, &result));
  file = fopen(argv[4], "wb");
  if (!file || fwrite(result, 4, (size_t)%(m)d * %(n)d, file) != (size_t)%(m)d * %(n)d || fclose(file)) return 4;
  _Exit(0);
}
"""


def onnxruntime_instructions_per_mac(qemu_cpu: str, part: int, shape: Shape, cache: Path = CACHE) -> float:
    """Of the second run of ``shape``'s product on qemu's core, which is told to be Arm's ``part``.

    Raises ConfigError when onnxruntime or the system's libraries cannot be had, BuildError when the program fails or
    its product is not exact.
    """
    library = onnxruntime_library(cache)
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (shape.m, shape.k)).astype(np.int8)
    w = rng.integers(-127, 128, (shape.k, shape.n)).astype(np.int8)
    with tempfile.TemporaryDirectory(prefix="tvm-flow-count-") as name:
        folder = Path(name)
        root = write_root(folder / "root", part)
        sizes = {"m": shape.m, "k": shape.k, "n": shape.n}
        program = compile_c("aarch64-linux-gnu.2.28", _PROGRAM % sizes, folder / "count", "-w", "-ldl")
        model, rows, result = (folder / file for file in ("model.onnx", "x", "result"))
        write_product(model, shape, w)
        rows.write_bytes(x.tobytes())
        count = executed([str(path) for path in (program, library, model, rows, result)], qemu_cpu, folder, root)
        got = np.fromfile(result, np.int32).reshape(shape.m, shape.n)
    # float64 sums of int8 products are exact up to 2^53
    if not np.array_equal(got, (x.astype(np.float64) @ w.astype(np.float64)).astype(np.int32)):
        raise BuildError(f"onnxruntime's product {shape} on {qemu_cpu}: expected exact int32 sums, got others")
    return count / shape.macs


def write_product(path: Path, shape: Shape, w: npt.NDArray[np.int8]) -> None:
    """An ONNX model y = MatMulInteger(x, ``w``) with ``w`` [K, N] constant."""
    inside = helper.make_tensor_value_info("x", TensorProto.INT8, (shape.m, shape.k))
    out = helper.make_tensor_value_info("y", TensorProto.INT32, (shape.m, shape.n))
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "product", [inside], [out], [numpy_helper.from_array(w, "w")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
