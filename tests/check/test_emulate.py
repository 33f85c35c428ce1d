"""Bundles for ARM boards, checked here under qemu. zig builds its C library at the first run, which takes a minute."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.elf_file import read_elf
from support.example_programs import EXAMPLES, headers, run, with_cmake, with_make
from support.stored_figures import as_read_back

from tvm_flow.check import machines
from tvm_flow.check.calls import ExactnessReport, check_traced, members_of
from tvm_flow.check.conformance import run_checked
from tvm_flow.check.emulator import EmulatedRun, Emulator, find_emulator, run_emulated
from tvm_flow.check.trajectory import TrajectoryCheck
from tvm_flow.compile import command as compile_module
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions, Emit
from tvm_flow.errors import BitExactError, BuildError
from tvm_flow.export import Exported
from tvm_flow.pack import read_golden, verify_bundle
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.quantize.quantized import QuantizedModel
from tvm_flow.run import TracedCall
from tvm_flow.target.spec import TargetSpec

Exporter = Callable[[str], tuple[QuantizedModel, Exported]]
ZIG_AARCH64 = f"CC={sys.executable} -m ziglang cc -target aarch64-linux-musl"
A72 = TargetSpec("a72", "aarch64-linux-gnu", "cortex-a72", frozenset({"neon"}))
needs_qemu = pytest.mark.skipif(
    not (shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")),
    reason="no qemu-aarch64: apt-get install qemu-user-static",
)


@dataclass(frozen=True)
class Checked:
    """A compiled bundle, and what it was checked with."""

    compiled: Compiled
    emulator: Emulator
    program: Path
    libraries: tuple[GroupLibrary, ...]

    def run(self, threads: int = 1, on_call: Callable[[Any], object] = id) -> bytes:
        nothing: list[None] = []
        bundle = self.compiled.bundle
        return run_emulated(EmulatedRun(self.emulator, self.program, bundle, threads), on_call, nothing.clear).tobytes()


@pytest.fixture(scope="module")
def checked(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Checked:
    """Two groups, so that kernels of equal names meet in one program."""
    folder = tmp_path_factory.mktemp("a72")
    kept: list[tuple[Any, ...]] = []

    def keep(machine: Any, bundle: Path, check: TrajectoryCheck, *rest: Any) -> Any:
        shutil.copy(machine.program, folder / "trace")
        kept.append((machine.emulator, check.libraries))
        return run_checked(machine, bundle, check, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compile_module, "run_checked", keep)
        exported = exporter("w8a8_first_float")[1]
        compiled = compile_bundle(
            exported, A72, folder / "bundle", CompileOptions(threads=1, progress=False, emit=Emit.STATIC)
        )
    ((emulator, libraries),) = kept
    return Checked(compiled, emulator, folder / "trace", tuple(libraries))


@needs_qemu
class TestCompile:
    def test_a_bundle_for_another_architecture_is_checked_and_complete(self, checked: Checked) -> None:
        compiled = checked.compiled
        assert compiled.groups == 2
        assert compiled.checked_on.endswith(" -cpu cortex-a72")
        counted = ("calls", "accumulators", "quantized", "floats", "constants")
        assert min(compiled.exactness[key] for key in counted) > 0
        assert compiled.exactness["worst_float"] <= 1
        assert verify_bundle(compiled.bundle, "aarch64").steps == 3
        assert np.abs(read_golden(compiled.bundle).latents).max() > 0

    def test_a_second_run_rewrites_nothing(self, checked: Checked, exporter: Exporter) -> None:
        before = checked.compiled.bundle.stat().st_mtime_ns
        again = compile_bundle(
            exporter("w8a8_first_float")[1],
            A72,
            checked.compiled.bundle,
            CompileOptions(progress=False, emit=Emit.STATIC),
        )
        assert checked.compiled.bundle.stat().st_mtime_ns == before
        exactness = checked.compiled.exactness
        assert exactness.keys() - again.exactness.keys() == {"onnx_agreement_db"}, "rounds as the machine's threads do"
        assert again == as_read_back(checked.compiled)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_threads_do_not_change_a_bit(self, checked: Checked, threads: int) -> None:
        assert checked.run(threads) == read_golden(checked.compiled.bundle).latents.tobytes()

    def test_a_constant_that_is_not_the_exported_one_is_caught(self, checked: Checked) -> None:
        first, *rest = checked.libraries
        name = next(name for name, value in first.given[0].items() if value.dtype == np.int8 and value.ndim == 2)
        wrong = first.given[0][name].copy()
        wrong[0, 0] ^= 1
        members = members_of([replace(first, given=({**first.given[0], name: wrong}, *first.given[1:])), *rest])
        with pytest.raises(BitExactError, match=r"step 0, branch 0, call \d+, kernel k\w+, constant"):
            checked.run(on_call=lambda call: check_traced(call, members, ExactnessReport()))

    def test_a_kernel_that_computes_something_else_is_caught(self, checked: Checked) -> None:
        members = members_of(checked.libraries)

        def off_by_one(seen: TracedCall) -> None:
            *inputs, output = seen.args
            wrong = output + (output.dtype == np.float32)
            check_traced(replace(seen, args=(*inputs, wrong.astype(output.dtype))), members, ExactnessReport())

        with pytest.raises(BitExactError, match=r"step 0, branch 0, call \d+, kernel k\d+_\w*: element"):
            checked.run(on_call=off_by_one)

    def test_what_a_callback_raises_ends_the_program(self, checked: Checked) -> None:
        with pytest.raises(KeyboardInterrupt):
            checked.run(on_call=_interrupt)

    def test_the_programs_own_words_reach_the_user(self, checked: Checked, tmp_path: Path) -> None:
        shutil.copytree(checked.compiled.bundle, tmp_path / "b")
        (tmp_path / "b" / "weights.bin").write_bytes(b"")
        other = replace(checked, compiled=replace(checked.compiled, bundle=tmp_path / "b"))
        with pytest.raises(
            BuildError, match=r"-cpu cortex-a72: .*exit code 1: weights\.bin: expected \d+ bytes, got 0"
        ):
            other.run()

    @pytest.mark.parametrize("cpu", ["cortex-a76", "max,sve=off", "max"])
    def test_a_core_with_more_instructions_gives_the_same_bits(self, checked: Checked, cpu: str) -> None:
        other = replace(checked, emulator=replace(checked.emulator, cpu=cpu))
        assert other.run() == read_golden(checked.compiled.bundle).latents.tobytes()

    def test_the_libraries_need_nothing_of_the_board(self, checked: Checked) -> None:
        """Not even a C library: what kernels call is linked in, or handed over by the runtime when it opens them."""
        libraries = sorted((checked.compiled.bundle / "lib" / A72.name).glob("*.so"))
        assert len(libraries) == 2
        for elf in map(read_elf, libraries):
            assert (elf.exported, elf.undefined, elf.needed) == ({"tvm_flow_library"}, set(), set())

    def test_a_core_without_the_instructions_refuses_the_kernels(self, checked: Checked, exporter: Exporter) -> None:
        a76 = TargetSpec("a76", "aarch64-linux-gnu", "cortex-a76", frozenset({"neon", "dotprod"}))
        assert find_emulator(a76).cpu == "cortex-a76"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machines, "find_emulator", lambda _: checked.emulator)
            with pytest.raises(BuildError, match="its kernels use dotprod, which this processor does not report"):
                compile_bundle(exporter("w8a8")[1], a76, checked.program.parent / "a76", CompileOptions(progress=False))
        assert not (checked.program.parent / "a76").exists()

    def test_one_static_elf_repeats_the_golden_output(self, checked: Checked, tmp_path: Path) -> None:
        bundle, qemu = checked.compiled.bundle, checked.emulator.program
        built = with_make(tmp_path, bundle, "LINK=static", "LIBC=musl", ZIG_AARCH64)
        said = headers(built / "check_bundle")
        assert "There is no dynamic section in this file" in said and "INTERP" not in said
        said = run(qemu, "-cpu", "cortex-a72", built / "check_bundle", bundle)
        assert said.endswith("the golden output, bit for bit\n")

    def test_cmake_cross_compiles_with_a_toolchain_file(self, checked: Checked, tmp_path: Path) -> None:
        toolchain = f"CMAKE_TOOLCHAIN_FILE={EXAMPLES / 'zig-toolchain.cmake'}"
        variables = [toolchain, f"PYTHON={sys.executable}", "TRIPLE=aarch64-linux-musl", "LIBC=musl", "LINK=static"]
        built = with_cmake(tmp_path, checked.compiled.bundle, *variables)
        qemu = checked.emulator.program
        said = run(qemu, "-cpu", "cortex-a72", built / "check_bundle", checked.compiled.bundle, 3)
        assert said.startswith("3 steps, 2 branches, 2 groups, 3 threads")
        assert said.endswith("the golden output, bit for bit\n")

    def test_nothing_of_it_touches_x18(self, checked: Checked) -> None:
        """Android's shadow call stack."""
        bundle = checked.compiled.bundle
        for path in (*bundle.rglob("*.so"), *bundle.rglob("libtvm_flow_groups.a")):
            code = run("llvm-objdump-19", "-d", "--no-show-raw-insn", path)
            assert "x19" in code and not re.search(r"\b[xw]18\b", code), path

    def test_a_core_that_qemu_does_not_model_is_one_that_has_everything(self) -> None:
        assert find_emulator(replace(A72, cpu="neoverse-v2")).cpu == "max"


def _interrupt(_call: object) -> None:
    raise KeyboardInterrupt


def test_without_qemu_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BuildError, match=r"target a72: expected qemu-aarch64 .*apt-get install qemu-user-static"):
        find_emulator(A72)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "got the end of its stream, exit code 0: it said nothing"),
        ("echo no memory >&2; exit 1", "got the end of its stream, exit code 1: no memory"),
        ("head -c 23 /dev/zero; exit 4", "got the end of its stream, exit code 4"),
        ("yes", "got a record of unknown kind"),
        (r"printf '\1\0\0\0'; head -c 20 /dev/zero; kill -9 $$", "got the end of its stream, exit code -9"),
    ],
)
def test_a_stream_that_breaks_off_is_an_error(tmp_path: Path, script: str, message: str) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text(f"#!/bin/sh\n{script}\n")
    qemu.chmod(0o755)
    seen: list[None] = []
    with pytest.raises(BuildError, match=f"qemu -cpu max: expected the bundle to run to its end, {message}"):
        run_emulated(EmulatedRun(Emulator(qemu, "max"), qemu, tmp_path, 1), id, lambda: seen.append(None))
