"""``scripts/bench size``: bytes of what goes onto an AArch64 board beside the weights.

``runtime_bytes``            the whole C runtime as a shared library, CPU only, -Oz, stripped, by zig cc
``vulkan_bytes``             the device for Vulkan (backends/vulkan/runtime) as a shared library, as bundles bring it
``npu_bytes``                the device for graphs of Arm's NPUs (backends/npu/arm/runtime), likewise
``signature_bytes``          the part that checks signatures (runtime/signature, Monocypher in it), likewise
``library_bytes``            the demo model's kernels and plan for cortex-a76 with SDOT, linked and stripped
``peak_over_weights_bytes``  what a run holds besides the weights: the plan's arena, the vectors of a step, and K and V
                             of both branches' prompts
``liveness_bound_bytes``     the most bytes of tensors needed during one kernel call, which no arena can undercut, and
                             the vectors of a step, which are made before its first call and kept to its last, and K
                             and V, which are made before the first step and kept to the last

The demo model is calibrated on one prompt, because its ranges decide no size, and its first step is built. A kernel's
own workspace, thread stacks and the latent are not in these figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.backends.npu.arm.npu_device import build_board_device
from tvm_flow.backends.vulkan.backend import VulkanBackend
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.calibrate.run import Denoising, calibrate
from tvm_flow.compile.library import build_library
from tvm_flow.export import export
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.pipeline.source import load_source
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.quantize.build import quantize
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import GLIBC, TargetSpec
from tvm_flow.target.target_names import targets_folder
from tvm_flow.toolchain.runtime_library import (
    C_FLAGS,
    LINK_FLAGS,
    SMALLEST,
    build_signature_part,
    runtime_sources,
)
from tvm_flow.toolchain.zig import zig_cc

TARGET = TargetSpec("cortex-a76", "aarch64-linux-gnu", "cortex-a76", frozenset({"neon", "dotprod"}))
BRANCHES = 2
"""Conditional and unconditional: both prompts' K and V are kept over the steps."""
SMALL = (*SMALLEST, "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections")
VULKAN_LIMIT = 40_000
"""Bytes of the device for Vulkan. Measured: 37396; zig cc 0.17.1, aarch64 glibc 2.28, 2026-11-26."""
NPU_LIMIT = 38_000
"""Bytes of the device for graphs of NPUs. Measured: 34392; zig cc 0.17.1, aarch64 glibc 2.28, 2026-11-26."""
SIGNATURE_LIMIT = 15_000
"""Bytes of the part that checks signatures. Measured: 14040; zig cc 0.17.1, aarch64 glibc 2.28, 2026-11-26."""
RUNTIME_LIMIT = 53_500
"""Bytes of the runtime. Measured: 53184; zig cc 0.17.1, aarch64 glibc 2.28, 2026-11-26. It was 48000 for 45824, before
forks and float modes were seen to, files could lie in no folder, and memory was planned, limited and given back; and
52000 for 50976, before refusals had named causes, and cut files, links and whole weights of another bundle were told
from damage."""


@dataclass(frozen=True)
class Sizes:
    """Bytes; see the module's table."""

    runtime: int
    vulkan: int
    npu: int
    signature: int
    library: int
    peak_over_weights: int
    liveness_bound: int


def runtime_bytes() -> int:
    """Compile the runtime for AArch64 and measure the file; raises BuildError with the compiler's message."""
    with temporary_folder("size") as folder:
        output = folder / "libtvm_flow.so"
        flags = [flag for flag in C_FLAGS if not flag.startswith("-O")]
        arguments = (*flags, *SMALL, "-o", str(output), *map(str, runtime_sources()), *LINK_FLAGS)
        zig_cc(arguments, "runtime at -Os", f"aarch64-linux-gnu.{GLIBC}")
        return output.stat().st_size


def vulkan_bytes() -> int:
    """Of the file for AArch64; raises BuildError with the compiler's message."""
    return VulkanBackend().board_library(f"aarch64-linux-gnu.{GLIBC}").stat().st_size


def demo_library(folder: Path) -> GroupLibrary:
    """The demo model's first step for `TARGET`, everything in ``folder``."""
    source, calibration = load_source(), targets_folder().parent / "calibration"
    prompts = load_prompts(calibration / "prompts.yaml")[:1]
    ranges = folder / "ranges.safetensors"
    calibrate(Denoising(source.model, source.sampler, source.latent), prompts, source.embed, ranges, progress=False)
    recipe = calibration / "recipes" / "w8a8.yaml"
    quantized = quantize(source.model, ranges, recipe, folder / "quantized.safetensors", progress=False)
    tokens, mask = source.embed([prompts[0].text])
    caption = (tokens[0].numpy(), int(mask[0].sum()))
    exported = export(quantized, folder / "export", caption, range(1), progress=False)
    group = import_steps(exported.graphs, progress=False)[0]
    return build_library(group, exported, TARGET, WeightStore(), folder / "group0.so")


def measure() -> Sizes:
    """Everything of the module's table."""
    with temporary_folder("size") as folder:
        library = demo_library(folder)
        plan = library.plan
        kept = plan.step_bytes + BRANCHES * plan.prompt_bytes
        parts = (
            f"arena {plan.arena_bytes}, its liveness bound {plan.liveness_bytes}, vectors of a step {plan.step_bytes}, "
            f"K and V of a prompt, all branches {BRANCHES * plan.prompt_bytes}"
        )
        print(parts, file=sys.stderr)
        size = library.path.stat().st_size
        npu = build_board_device(f"aarch64-linux-gnu.{GLIBC}").stat().st_size
        signature = build_signature_part(f"aarch64-linux-gnu.{GLIBC}").stat().st_size
        memory = plan.arena_bytes + kept, plan.liveness_bytes + kept
        return Sizes(runtime_bytes(), vulkan_bytes(), npu, signature, size, *memory)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    argparse.ArgumentParser(prog="bench size", description="bytes on an AArch64 board").parse_args(arguments)
    sizes = measure()
    print(f"runtime: {sizes.runtime} of at most {RUNTIME_LIMIT} bytes", file=sys.stderr)
    print(f"vulkan: {sizes.vulkan} of at most {VULKAN_LIMIT} bytes", file=sys.stderr)
    print(f"npu: {sizes.npu} of at most {NPU_LIMIT} bytes", file=sys.stderr)
    print(f"signature: {sizes.signature} of at most {SIGNATURE_LIMIT} bytes", file=sys.stderr)
    print(f"peak over liveness bound: {sizes.peak_over_weights / sizes.liveness_bound:.3f}", file=sys.stderr)
    print(json.dumps({f"{key}_bytes": value for key, value in vars(sizes).items()}))
