"""Compiled kernels are disassembled: no instruction is in them that the runtime does not check for."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tvm import te, tirx
from tvm.target import Target

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.target.features import llvm_target
from tvm_flow.target.spec import TargetSpec, load_target
from tvm_flow.target.target_names import targets_folder

OBJDUMP = next(filter(None, (shutil.which(f"llvm-objdump{end}") for end in ("", "-22", "-21", "-20", "-19"))), None)
A64, X64 = "aarch64-linux-gnu", "x86_64-linux-gnu"
# Words of x86 instructions, by the feature that brings them. Without BMI tzcnt is how LLVM writes bsf.
X86_WORDS = {
    "bmi": r"andn[lq]|bextr[lq]|bls(?:i|r|msk)[lq]",
    "bmi2": r"(?:mulx|rorx|sarx|shlx|shrx|pdep|pext|bzhi)[lq]",
    "lzcnt": r"lzcnt[wlq]",
    "movbe": r"movbe[wlq]",
    "popcnt": r"popcnt[wlq]",
    "sse4.1": r"p(?:max|min)s[bd]|pmulld|pmovsx\w+|pblendw|blendv?p[sd]|pextr[bdq]|round[ps][sd]",
    "avx": r"v[a-z]\w+",
    "fma": r"vfn?m\w+",
    "avx512f": r"%zmm\d+|%k[0-7]|%[xy]mm(?:1[6-9]|2\d|3[01])|vpternlog[dq]|valign[dq]",
    "avx512cd": r"vplzcnt[dq]",
    "avx512vpopcntdq": r"vpopcnt[dq]",
}
PHONE = TargetSpec("phone", A64, "cortex-a710", frozenset({"neon", "lse", "fullfp16", "dotprod", "i8mm"}))
RESTRICTED = [
    PHONE,
    TargetSpec("plain-phone", A64, "cortex-a710", frozenset()),
    TargetSpec("server", A64, "neoverse-v1", frozenset({"dotprod"})),
    TargetSpec("laptop", X64, "x86-64-v3", frozenset({"avx2", "fma"})),
    TargetSpec("old", X64, "x86-64-v3", frozenset()),
    TargetSpec("hidden", X64, "znver4", frozenset({"avx2", "fma", "popcnt"})),
]
pytestmark = pytest.mark.skipif(OBJDUMP is None, reason="needs llvm-objdump")


def bits() -> Any:
    """What LLVM has scalar instructions for on cores that have them: shifts, leading zeros, counts, and-not."""
    x, n = (te.placeholder((9,), "int64", name) for name in "XN")
    k = te.reduce_axis((0, 9), "k")

    def term(at: Any) -> Any:
        counts = tirx.clz(n[at]).astype("int64") + tirx.popcount(x[at])
        return tirx.shift_right(x[at], n[at]) * counts + (x[at] & ~n[at]) + tirx.shift_left(n[at], x[at])

    return te.create_prim_func([x, n, te.compute((1,), lambda _: te.sum(term(k), axis=k), name="Y")])


def loops() -> Any:
    """What LLVM vectorises by itself, with scalable registers where it may."""
    x, n = (te.placeholder((999,), kind, name) for kind, name in (("float32", "X"), ("int64", "N")))
    k = te.reduce_axis((0, 999), "k")
    total = te.compute((1,), lambda _: te.sum(x[k] * x[k], axis=k), name="S")

    def element(at: Any) -> Any:
        places = tirx.shift_right(n[at], n[at] & 7) + tirx.floordiv(n[at], tirx.const(7, "int64"))
        return x[at] * total[0] + (tirx.popcount(places) + tirx.clz(places).astype("int64")).astype("float32")

    return te.create_prim_func([x, n, te.compute((999,), element, name="Y")])


def disassembled(target: Target, features: frozenset[str], folder: Path) -> str:
    """Code for the probes and a product, as a machine that has ``features`` reads it."""
    functions = {name: probe().with_attr("global_symbol", name) for name, probe in {"b": bits, "l": loops}.items()}
    functions["g"] = gemm("g", 8, 64, 64, choose_isa(features))
    compile_object(functions, target, folder / "probes.o")
    command = [str(OBJDUMP), "-d", "--no-show-raw-insn"]
    if str(target.attrs["mtriple"]).startswith("aarch64-"):
        command += ["--mcpu=generic", f"--mattr={','.join(f'+{name}' for name in sorted(features))}"]
    done = subprocess.run([*command, str(folder / "probes.o")], capture_output=True, text=True, check=True)
    return done.stdout


def beyond(code: str, features: frozenset[str]) -> list[str]:
    """Instructions of ``code`` that need more than ``features``."""
    lines = [line.split("\t", 1)[-1] for line in code.splitlines() if "\t" in line]
    words = [pattern for name, pattern in X86_WORDS.items() if name not in features]
    unknown = re.compile(r"<unknown>" + "".join(rf"|(?:(?<![\w%])(?:{word})\b)" for word in words))
    return [line for line in lines if unknown.search(line)]


@pytest.mark.parametrize("spec", RESTRICTED, ids=lambda spec: spec.name)
def test_a_short_list_leaves_llvm_only_what_is_listed(spec: TargetSpec, tmp_path: Path) -> None:
    assert beyond(disassembled(spec.tvm(), spec.features, tmp_path), spec.features) == []


@pytest.mark.parametrize("spec", RESTRICTED, ids=lambda spec: spec.name)
def test_the_name_of_the_cpu_alone_would_bring_more(spec: TargetSpec, tmp_path: Path) -> None:
    """So that the tests above can fail."""
    plain = llvm_target(spec.triple, spec.cpu, [f"+{name}" for name in sorted(spec.features)])
    found = beyond(disassembled(plain, spec.features, tmp_path), spec.features)
    assert found


@pytest.mark.parametrize("name", sorted(path.stem for path in targets_folder().glob("*.yaml")))
def test_shipped_targets_hold_what_they_list(name: str, tmp_path: Path) -> None:
    spec = load_target(name)
    assert beyond(disassembled(spec.tvm(), spec.features, tmp_path), spec.features) == []
