"""``scripts/bench vulkan``: the demo's first step on a Vulkan device, and an int8 product beside ncnn's and IREE's.

    {"device", "integer_equal", "step_ms", "gemm_gmacs", "peers": {NAME: {"gemm_gmacs", "max_err"}}, "pipelines",
     "spirv_bytes", "runtime_bytes"}

``integer_equal``   every kernel call of that step agreed with the reference: bit-exact in the project's sense
``step_ms``         the fastest of ``--rounds`` predictions of one branch, on all cores that the driver takes
``gemm_gmacs``      M * K * N / seconds / 1e9 of one product of int8 codes to int32, weights on the device
``max_err``         largest error of a peer's product; null where it failed, with its words on stderr
``pipelines``       that the library of the step holds, and ``spirv_bytes`` of their modules, each stored once
``runtime_bytes``   the device's part of the runtime for AArch64, stripped

Everyone multiplies the same codes, -127 to 127, on the same device in the same run: TVM_FLOW_VULKAN_DEVICE chooses
ours, peers take the first. On a machine that does other things too, figures of two runs are not comparable.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from tvm import relax

from tvm_flow.backends.base import Kernel, Offer
from tvm_flow.backends.vulkan.backend import RUNTIME_PART, VULKAN, VulkanBackend, shader_kernel
from tvm_flow.backends.vulkan.payload import counted, encode_payload
from tvm_flow.backends.vulkan.shader import Shader
from tvm_flow.bench.driven import ARENA, Driven, Plan, Tensor
from tvm_flow.bench.shapes import Shape, parse_shapes
from tvm_flow.bench.vulkan_peers import PEERS, Array
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.graph.types import Relax
from tvm_flow.pack import read_golden
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.pipeline.source import load_source
from tvm_flow.pipeline.stages import calibrate_stage, compile_stage, quantize_stage
from tvm_flow.run import Bundle
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec, load_target
from tvm_flow.target.target_names import targets_folder
from tvm_flow.toolchain.runtime_library import build_device

BOARD = "aarch64-linux-gnu.2.28"
SHAPE = "256,1152,1152"
_PATIENCE = 600
"""Seconds for a peer."""


@dataclass(frozen=True)
class Product:
    """Of codes x [m, k] and w [k, n]."""

    x: Array
    w: Array

    @property
    def exact(self) -> Array:
        """In float64, whose sums are below 2^53."""
        return np.asarray(self.x.astype(np.float64) @ self.w.astype(np.float64))

    def gmacs(self, seconds: float) -> float:
        """Of a run that took so long."""
        return round(float(self.x.size * self.w.shape[1]) / seconds / 1e9, 2)


def product_of(shape: Shape) -> Product:
    """Random codes, the same in every run; ncnn has none of -128."""
    rng = np.random.default_rng(shape.macs)
    x, w = (rng.integers(-127, 128, size, np.int8) for size in ((shape.m, shape.k), (shape.k, shape.n)))
    return Product(x, w)


def ours(product: Product, target: TargetSpec, rounds: int) -> tuple[str, float]:
    """What the device says it is, and seconds; raises BuildError when a sum is wrong."""
    (m, k), n = product.x.shape, product.w.shape[1]
    offer = VulkanBackend().offers(Kernel("product", _relax(m, k, n), (False, True)), target)
    if not isinstance(offer, Offer) or not isinstance(offer.choice, Shader):
        raise BuildError(f"bench vulkan: expected a shader for {m}x{k}x{n}, got {offer}; choose another --shape")
    w = np.ascontiguousarray(offer.layouts[1].pack(product.w) if offer.layouts else product.w)
    shapes: list[tuple[tuple[int, ...], str]] = [(product.x.shape, "int8"), (w.shape, str(w.dtype)), ((m, n), "int32")]
    ends = np.cumsum([-(-np.dtype(dtype).itemsize * prod(shape) // 64) * 64 for shape, dtype in shapes])
    plan = Plan(
        [Tensor(ARENA, int(at), *each) for at, each in zip([0, *ends], shapes, strict=False)],
        [(0, 1, 2)],
        [1],
        encode_payload({"product": shader_kernel(offer.choice)}, ["product"]),
        arena_bytes=int(ends[-1]),
    )
    with Driven(plan) as driven:
        driven.write(0, product.x)
        driven.write(1, w)
        driven.run()
        if (driven.read(2) != product.exact).any():
            raise BuildError("bench vulkan: expected our product to be exact, got other sums; report this")
        seconds = min(_seconds(driven.run) for _ in range(rounds))
        return driven.memory.lines[0].removeprefix("device vulkan: "), seconds


def _relax(m: int, k: int, n: int) -> Relax:
    """The product as importer and partition leave it."""
    x, w = (relax.Var(name, relax.TensorType(shape, "int8")) for name, shape in (("x", (m, k)), ("w", (k, n))))
    builder = relax.BlockBuilder()
    with builder.function("product", [x, w]):
        with builder.dataflow():
            out = builder.emit_output(relax.op.matmul(x, w, out_dtype="int32"))
        builder.emit_func_output(out)
    return builder.get()["product"]


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def peer(name: str, product: Product, rounds: int) -> dict[str, float | None]:
    """Its speed and largest error; both None where it failed."""
    with temporary_folder("peer") as folder:
        np.save(folder / "x.npy", product.x)
        np.save(folder / "w.npy", product.w)
        command = [sys.executable, "-m", "tvm_flow.bench.vulkan_peers", name, str(folder), str(rounds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PATIENCE)
            found = np.load(folder / f"{name}.npz")
        except subprocess.TimeoutExpired as late:
            print(f"{name}: {late}", file=sys.stderr)
            return {"gemm_gmacs": None, "max_err": None}
        except FileNotFoundError:
            print(f"{name}: {done.stderr}", file=sys.stderr)
            return {"gemm_gmacs": None, "max_err": None}
        wrong = float(np.abs(found["result"] - product.exact).max())
        return {"gemm_gmacs": product.gmacs(float(found["seconds"])), "max_err": wrong}


@dataclass(frozen=True)
class Step:
    """The demo's first step on the device."""

    equal: bool
    ms: float | None
    pipelines: int
    spirv_bytes: int


def demo_step(target: str, folder: Path, rounds: int) -> Step:
    """Compiled, checked and `measured` in ``folder``; a check that failed is on stderr, and nothing else is known then.

    One prompt is calibrated on: its ranges decide no time.
    """
    source, calibration = load_source(), targets_folder().parent / "calibration"
    prompts, quantized = folder / "prompts.yaml", folder / "quantized.safetensors"
    prompts.write_text(f"prompts: [{load_prompts(calibration / 'prompts.yaml')[0].text}]\n")
    calibrate_stage(source, prompts, folder / "ranges.safetensors")
    quantize_stage(source, folder / "ranges.safetensors", calibration / "recipes" / "w8a8.yaml", quantized)
    exported = export_stage(source, quantized, prompts, folder / "export", range(1))
    try:
        compiled = compile_stage(exported.folder, target, folder / "bundle", CompileOptions(progress=False))
    except BitExactError as error:
        print(f"bench vulkan: {error}", file=sys.stderr)
        return Step(False, None, 0, 0)
    return measured(compiled.bundle, rounds)


def measured(folder: Path, rounds: int) -> Step:
    """The first step of a bundle that was checked."""
    golden = read_golden(folder)
    with Bundle.open(folder) as bundle:
        seconds = min(_seconds(lambda: bundle.velocity(0, 0, golden.noise, golden.cond)) for _ in range(rounds + 1))
    (library,) = folder.glob("lib/*/group0.so")
    pipelines, spirv_bytes = counted(library.read_bytes())
    return Step(True, round(1e3 * seconds, 1), pipelines, spirv_bytes)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench vulkan", description="the demo and a product on a Vulkan device")
    parser.add_argument("--target", default="vulkan-llvmpipe", help="that the device can run (vulkan-llvmpipe)")
    parser.add_argument("--shape", default=SHAPE, metavar="M,K,N", help="of the product (256,1152,1152)")
    parser.add_argument("--rounds", type=int, default=5, help="of which the fastest counts (5)")
    options = parser.parse_args(arguments)
    product, rounds = product_of(parse_shapes([options.shape])[0]), max(options.rounds, 1)
    device, seconds = ours(product, load_target(options.target), rounds)
    peers = {name: peer(name, product, rounds) for name in PEERS}
    with temporary_folder("bench") as folder:
        step = demo_step(options.target, folder, rounds)
    line = {
        "device": device,
        "integer_equal": step.equal,
        "step_ms": step.ms,
        "gemm_gmacs": product.gmacs(seconds),
        "peers": peers,
        "pipelines": step.pipelines,
        "spirv_bytes": step.spirv_bytes,
        "runtime_bytes": build_device(VULKAN, RUNTIME_PART, BOARD).stat().st_size,
    }
    print(json.dumps(line))
