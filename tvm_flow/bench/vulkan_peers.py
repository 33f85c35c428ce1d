"""Int8 products of other projects on a Vulkan device: ncnn's and IREE's, each as its own user would run it.

Each takes M x K and K x N codes and gives its fastest run in seconds and its result; a process of its own runs it,
``python -m tvm_flow.bench.vulkan_peers NAME FOLDER ROUNDS``, so that one that crashes or hangs is a failure of its own.

    ncnn   an InnerProduct of int8 with static scales of 1, through its extractor: copies to and from the device count
    iree   a linalg.matmul of i8 to i32, compiled for the target whose sums are right; its own benchmark times it, on
           buffers of the device
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_NCNN = """7767517
2 2
Input        in      0 1 x
InnerProduct product 1 1 x y 0={n} 1=0 2={size} 8=2
"""
_INT8 = 0x000D4B38
"""Begins weights of int8 in a file of ncnn's."""
_IREE_FLAGS = ("--iree-hal-target-device=vulkan", "--iree-vulkan-target=valhall4")
"""Its default target and vp_android_baseline_2022 give wrong sums on lavapipe (Mesa 22.3.6, subgroups of 8), rdna3 is
refused there, adreno does not compile (IREE 3.13)."""
_IREE = """func.func @product(%a: tensor<{m}x{k}xi8>, %b: tensor<{k}x{n}xi8>) -> tensor<{m}x{n}xi32> {{
  %zero = arith.constant 0 : i32
  %empty = tensor.empty() : tensor<{m}x{n}xi32>
  %init = linalg.fill ins(%zero : i32) outs(%empty : tensor<{m}x{n}xi32>) -> tensor<{m}x{n}xi32>
  %out = linalg.matmul ins(%a, %b : tensor<{m}x{k}xi8>, tensor<{k}x{n}xi8>)
                       outs(%init : tensor<{m}x{n}xi32>) -> tensor<{m}x{n}xi32>
  return %out : tensor<{m}x{n}xi32>
}}
"""


def ncnn_product(folder: Path, x: Array, w: Array, rounds: int) -> tuple[float, Array]:
    """Without 16-bit floats, in which sums of products do not fit."""
    import ncnn

    (k, n), floats = w.shape, x.astype(np.float32)
    rows = ncnn.Mat(floats)  # which has no copy of them
    (folder / "ncnn.param").write_text(_NCNN.format(n=n, size=n * k))
    scales = np.ones(n + 1, np.float32)
    (folder / "ncnn.bin").write_bytes(struct.pack("<I", _INT8) + w.T.tobytes() + scales.tobytes())
    net = ncnn.Net()
    net.opt.use_vulkan_compute = True
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(folder / "ncnn.param")) or net.load_model(str(folder / "ncnn.bin")):
        raise OSError("ncnn does not load the model")
    best, result = float("inf"), np.zeros(0)
    for _ in range(rounds + 1):
        start, extractor = time.perf_counter(), net.create_extractor()
        extractor.input("x", rows)
        _, out = extractor.extract("y")
        best, result = min(best, time.perf_counter() - start), np.array(out)
    return best, result


def iree_product(folder: Path, x: Array, w: Array, rounds: int) -> tuple[float, Array]:
    """Its tools read and write numpy's files."""
    import iree.compiler
    import iree.runtime

    (m, k), n = x.shape, w.shape[1]
    tools = Path(iree.runtime.__file__).parents[1] / "_runtime_libs"
    module = folder / "iree.vmfb"
    source = _IREE.format(m=m, k=k, n=n)
    module.write_bytes(iree.compiler.compile_str(source, extra_args=_IREE_FLAGS))
    np.save(folder / "x.npy", x)
    np.save(folder / "w.npy", w)
    given = ["--device=vulkan", f"--module={module}", "--function=product", "--input=@x.npy", "--input=@w.npy"]
    subprocess.run(
        [str(tools / "iree-run-module"), *given, "--output=@y.npy"], cwd=folder, check=True, capture_output=True
    )
    timed = [str(tools / "iree-benchmark-module"), *given, f"--benchmark_repetitions={rounds}"]
    said = subprocess.run(timed, cwd=folder, check=True, capture_output=True, text=True).stdout
    times = re.findall(r"^BM_product\S*/real_time\s+([\d.]+) ms", said, re.MULTILINE)
    return min(map(float, times)) / 1e3, np.load(folder / "y.npy")


PEERS: Mapping[str, Callable[[Path, Array, Array, int], tuple[float, Array]]] = {
    "ncnn": ncnn_product,
    "iree": iree_product,
}


def main(name: str, folder: Path, rounds: int) -> None:
    """The product of ``x.npy`` and ``w.npy`` of ``folder``, its result and seconds beside them."""
    x, w = np.load(folder / "x.npy"), np.load(folder / "w.npy")
    seconds, result = PEERS[name](folder, x, w, rounds)
    np.savez(folder / f"{name}.npz", seconds=seconds, result=result)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
