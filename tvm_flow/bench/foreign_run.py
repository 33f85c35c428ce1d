"""Any ONNX model in onnxruntime's AArch64 library under qemu, and the instructions of its second run.

Every optimisation is on, one thread. The first run allocates and packs, and is not counted; the second writes where the
first did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.bench.executed import compile_c, executed
from tvm_flow.bench.wheel import CACHE, onnxruntime_library, write_root
from tvm_flow.scratch import temporary_folder

Array = npt.NDArray[Any]
MOST_INPUTS = 8
_CODES = {"float32": 1, "int8": 3}
"""ONNX's numbers of the types that inputs have."""

# OrtApi is a struct of function pointers that only grows at its end; these are the places in it, from
# onnxruntime_c_api.h, of the functions named. The first memory type and allocator are 0 and 0.
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
  fprintf(stderr, "%s\n", ((const char *(*)(void *))api[GetErrorMessage])(status));
  _Exit(3);
}
#define CALL(name, types) check(((void *(*) types)api[name])
int main(int argc, char **argv) {  // library, model, result, its name and bytes; each input: name, type, file, shape
  void *library = argc > 9 ? dlopen(argv[1], RTLD_NOW) : 0;
  const base *(*get_base)(void) = library ? (const base *(*)(void))dlsym(library, "OrtGetApiBase") : 0;
  if (!get_base) return 2;
  api = get_base()->get_api(1);
  void *env, *options, *session, *memory, *in[INPUTS], *out = 0, *result;
  const char *inputs[INPUTS], *outputs[] = {argv[4]};
  CALL(CreateEnv, (int, const char *, void **))(3, "bench", &env));
  CALL(DisableTelemetryEvents, (void *))(env));
  CALL(CreateSessionOptions, (void **))(&options));
  CALL(SetSessionGraphOptimizationLevel, (void *, int))(options, 99));
  CALL(SetIntraOpNumThreads, (void *, int))(options, 1));
  CALL(CreateSession, (void *, const char *, void *, void **))(env, argv[2], options, &session));
  CALL(CreateCpuMemoryInfo, (int, int, void **))(0, 0, &memory));
  size_t count = 0;
  for (char **given = argv + 6; given + 3 < argv + argc && count < INPUTS; given += 4, count++) {
    const int type = atoi(given[1]);
    int64_t shape[8];
    size_t rank = 0, bytes = type == 1 ? 4 : 1;
    for (char *at = given[3]; *at && rank < 8; at += *at == ',') bytes *= (size_t)(shape[rank++] = strtol(at, &at, 10));
    void *data = malloc(bytes);
    FILE *file = fopen(given[2], "rb");
    if (!data || !file || fread(data, 1, bytes, file) != bytes || fclose(file)) return 4;
    inputs[count] = given[0];
    CALL(CreateTensorWithDataAsOrtValue, (void *, void *, size_t, const int64_t *, size_t, int, void **))
        (memory, data, bytes, shape, rank, type, &in[count]));
  }
  for (int i = 0; i < 2; i++) {  // the output of the first is given to the second, which allocates nothing
    if (i) getppid();
    CALL(Run, (void *, void *, const char **, void **, size_t, const char **, size_t, void **))
        (session, 0, inputs, in, count, outputs, 1, &out));
  }
  getppid();
  CALL(GetTensorMutableData, (void *, void **))(out, &result));
  const size_t bytes = strtoul(argv[5], 0, 10);
  FILE *file = fopen(argv[3], "wb");
  if (!file || fwrite(result, 1, bytes, file) != bytes || fclose(file)) return 5;
  _Exit(0);
}
"""


@dataclass(frozen=True)
class EmulatedCore:
    """qemu's name of a core, and Arm's number of the part that onnxruntime is told it is."""

    qemu_cpu: str
    part: int


@dataclass(frozen=True)
class Output:
    """The output of a model that is read back: its name, shape and NumPy's name of its type."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def run_foreign(
    model: Path, feeds: Mapping[str, Array], output: Output, core: EmulatedCore, cache: Path = CACHE
) -> tuple[int, Array]:
    """Instructions of the second run of ``model`` on ``feeds`` (float32 or int8, up to `MOST_INPUTS`), and its output.

    Raises ConfigError when onnxruntime or the system's libraries cannot be had, BuildError when the program fails.
    """
    library = onnxruntime_library(cache)
    with temporary_folder("count") as folder:
        root, result = write_root(folder / "root", core.part), folder / "result"
        program = compile_c(
            "aarch64-linux-gnu.2.28", _PROGRAM, folder / "count", f"-DINPUTS={MOST_INPUTS}", "-w", "-ldl"
        )
        size = prod(output.shape) * np.dtype(output.dtype).itemsize
        command = [str(program), str(library), str(model), str(result), output.name, str(size)]
        for key, values in feeds.items():
            (folder / f"in_{key}").write_bytes(np.ascontiguousarray(values).tobytes())
            shape = ",".join(map(str, values.shape))
            command += [key, str(_CODES[values.dtype.name]), str(folder / f"in_{key}"), shape]
        count = executed(command, core.qemu_cpu, folder, root)
        return count, np.fromfile(result, output.dtype).reshape(output.shape)
