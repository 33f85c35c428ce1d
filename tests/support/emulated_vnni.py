"""What AVX512-VNNI computes, on a machine without it: products and a bundle's every kernel call, by `emulated_x86`.

`python -m support.emulated_vnni` compares, bit for bit,

- products of each instruction set of AVX-512, all of int8's extremes among their operands, with exact integers;
- each kernel call of a tiny STDiT3 and of two steps of the shipped demo model, as `tvm-flow compile` does on a machine
  that has the instructions, but for the accumulators of fused products: that is what the products above are for.

The demo's decoder is left out: Bochs 2.7 refuses a gather whose indices lie in ymm16 to ymm31, which LLVM makes there.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from support import tiny_model
from support.emulated_x86 import missing
from support.small_demo import PROMPT, RECIPE, STEPS
from tvm_flow.backends.cpu import Isa, x86
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.check import machines
from tvm_flow.check.emulator import Emulator
from tvm_flow.check.machines import Emulated
from tvm_flow.check.sums import link_sums
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.export import Exported, load_exported
from tvm_flow.export.decoder_file import DECODER_FILES
from tvm_flow.pipeline.exporting import export_stage
from tvm_flow.pipeline.source import load_source
from tvm_flow.pipeline.stages import calibrate_stage, quantize_stage
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec, load_target

COMMAND = (sys.executable, "-m", "support.emulated_x86")
SHAPES = ((1, 64, 96), (7, 64, 96), (12, 64, 96), (13, 128, 192), (16, 1152, 192), (64, 96, 288), (8, 24, 64))
"""M, K, N: one row, primes of rows, STDiT-XL's depth; the last leaves VNNI for its fallback."""
DEEPEST = 131068
"""Products of -128 by 127 or -128 in a sum: near the ends of int32."""


def vnni_target() -> TargetSpec:
    """x86-64-v4 and VNNI: Cascade Lake, Zen 4 and newer."""
    v4 = load_target("x86-64-v4")
    return TargetSpec("x86-64-v4-vnni", v4.triple, v4.cpu, v4.features | {"avx512vnni"})


@dataclass(frozen=True)
class Bochs(Emulator):
    """The emulator of `support.emulated_x86`."""

    program: Path = Path("bochs")
    cpu: str = "corei7_icelake_u"

    @property
    def command(self) -> tuple[str, ...]:
        return COMMAND


@dataclass(frozen=True)
class BochsMachine(Emulated):
    """It answers no questions while it runs, so accumulators that no kernel writes are compared by `check_products`."""

    def sums(self, *_: object) -> None:
        return None


def operands(m: int, k: int, n: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """int8 [M, K] and [K, N]: random, and each pair of extremes."""
    rng = np.random.default_rng(m * 1000 + k * 10 + n)
    yield rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-128, 128, (k, n)).astype(np.int8)
    for x, w in ((-128, -128), (-128, 127), (127, -128), (127, 127)):
        yield np.full((m, k), x, np.int8), np.full((k, n), w, np.int8)


def products_of(isas: Sequence[Isa], shapes: Sequence[tuple[int, int, int]] = SHAPES) -> list[Product]:
    """Of each that fits; their sums are seen, as those of products with an epilogue are in a check."""
    return [Product(*shape, isa, epilogue=True) for isa in isas for shape in shapes if isa.fits(*shape)]


def check_products(products: Sequence[Product], folder: Path) -> dict[str, int]:
    """By instruction set, how many sums equal the exact ones; raises AssertionError where one does not."""
    program = link_sums(products, vnni_target(), folder, (*COMMAND, "--stdin"))
    assert program is not None
    asked, exact = [], []
    for index, product in enumerate(products):
        for x, w in operands(product.m, product.k, product.n):
            asked += [struct.pack("<I", index), x.tobytes(), product.isa.layout.pack(w).tobytes()]
            exact.append((product, x.astype(np.int64) @ w.astype(np.int64)))
    done = subprocess.run(program.command, input=b"".join(asked), stdout=subprocess.PIPE, check=True)
    got, at, counts = np.frombuffer(done.stdout, "<i4"), 0, dict.fromkeys((p.isa.name for p in products), 0)
    for product, sums in exact:
        np.testing.assert_array_equal(got[at : at + sums.size].reshape(sums.shape), sums, str(product))
        at += sums.size
        counts[product.isa.name] += sums.size
    assert at == got.size
    return counts


def demo_export(folder: Path) -> Exported:
    """The first two steps of the demo model, calibrated on one prompt, as `support.small_demo` has them."""
    prompts, ranges, quantized = (folder / name for name in ("p.yaml", "ranges.safetensors", "q.safetensors"))
    prompts.write_text(f"prompts: [{PROMPT}]\n")
    source = load_source()
    calibrate_stage(source, prompts, ranges)
    quantize_stage(source, ranges, RECIPE, quantized)
    export_stage(source, quantized, prompts, folder / "export", STEPS)
    for name in DECODER_FILES:
        (folder / "export" / name).unlink()
    return load_exported(folder / "export")


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def main(names: list[str]) -> None:
    """All of ``names``, or what they name: products, tiny, demo."""
    if needed := missing():
        sys.exit(f"emulated_vnni: expected an emulator of AVX-512, got none; {needed}")
    with temporary_folder("vnni") as folder:
        if not names or "products" in names:
            isas = (x86.AVX512VNNI, x86.AVX512BW, x86.AVXVNNI)
            deep = [Product(1, DEEPEST // isa.depth * isa.depth, isa.columns, isa, epilogue=True) for isa in isas]
            start, counts = time.monotonic(), check_products([*products_of(isas), *deep], folder)
            say(exact_sums=counts, seconds=round(time.monotonic() - start, 1))
        machine = BochsMachine(Bochs())
        machines.MACHINES = (lambda _: machine,)
        for name, export in (("tiny", tiny_export), ("demo", demo_export)):
            if names and name not in names:
                continue
            (folder / name).mkdir()
            start, exported = time.monotonic(), export(folder / name)
            compiled = compile_bundle(exported, vnni_target(), folder / name / "bundle", CompileOptions(threads=1))
            machine_line = {"checked_on": compiled.checked_on, "seconds": round(time.monotonic() - start, 1)}
            say(bundle=name, **machine_line, **compiled.exactness)


def tiny_export(folder: Path) -> Exported:
    """Three steps of a model of 32 channels."""
    return tiny_model.make_export(tiny_model.make_ranges(folder), "w8a8", folder)[1]


if __name__ == "__main__":
    main(sys.argv[1:])
