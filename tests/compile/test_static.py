"""compile --emit static: what it adds, that it is checked, and that a program takes no other build's bundle."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.elf_file import read_elf
from support.manifests import change_manifest

from tvm_flow.compile import command as compile_module
from tvm_flow.compile import static as static_module
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions, Emit
from tvm_flow.errors import BuildError, BundleError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.pack import read_manifest, verify_bundle
from tvm_flow.plan.emit import emit_linked
from tvm_flow.run import Bundle
from tvm_flow.target.spec import TargetSpec, load_target
from tvm_flow.toolchain.runtime_library import RUNTIME, build_static_runtime

LIB = "lib/host"


@pytest.fixture(scope="module")
def checker(static_bundle: Path, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """check_bundle with the groups of `static_bundle` linked in."""
    files = {path: static_bundle / path for path in read_manifest(static_bundle).static}
    program = tmp_path_factory.mktemp("checker") / "check_bundle"
    static_module.link_static(files, host, RUNTIME / "examples" / "check_bundle.c", program, "gnu")
    return program


def run(program: Path, bundle: Path, threads: str = "2") -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, bundle, threads], capture_output=True, text=True, check=False, timeout=60)


class TestBundle:
    def test_archives_and_headers_are_listed(self, static_bundle: Path) -> None:
        manifest = verify_bundle(static_bundle)
        headers = {f"include/{path.name}" for path in (RUNTIME / "include").glob("*.h")}
        archives = {f"{LIB}/libtvm_flow_groups.a", f"{LIB}/gnu/libtvm_flow.a", f"{LIB}/musl/libtvm_flow.a"}
        assert len(headers) == 15 and set(manifest.static) == headers | archives
        assert set(manifest.static) <= set(manifest.files)
        brought = {"LICENSE", f"{LIB}/libtvm_flow.so.0", f"{LIB}/check_bundle"}
        assert brought <= set(manifest.files) - set(manifest.static)
        for archive in archives:
            assert (static_bundle / archive).read_bytes().startswith(b"!<arch>\n")

    def test_python_runs_it_through_its_shared_libraries(self, static_bundle: Path) -> None:
        assert len(list(static_bundle.glob("lib/host/*.so"))) == 2
        with Bundle.open(static_bundle, threads=1) as bundle:
            bundle.verify()

    def test_its_own_program_checks_it(self, static_bundle: Path) -> None:
        """With the shared libraries and the runtime beside it."""
        assert run(static_bundle / LIB / "check_bundle", static_bundle).stdout.endswith("output, bit for bit\n")

    @pytest.mark.parametrize("name", [f"{LIB}/libtvm_flow_groups.a", f"{LIB}/libtvm_flow.so.0", "include/tvm_flow.h"])
    def test_damage_is_seen(self, static_bundle: Path, tmp_path: Path, name: str) -> None:
        shutil.copytree(static_bundle, tmp_path / "b")
        file = tmp_path / "b" / name
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(BundleError, match=rf"{file.name}: expected sha256"):
            verify_bundle(tmp_path / "b")

    @pytest.mark.parametrize("static", ["x", ["../a"], ["nowhere.a"], [1], {}])
    def test_a_manifest_that_names_other_files_is_refused(
        self, static_bundle: Path, tmp_path: Path, static: object
    ) -> None:
        shutil.copytree(static_bundle, tmp_path / "b")
        change_manifest(tmp_path / "b", lambda values: values.update(static=static))
        with pytest.raises(BundleError, match="static: expected a list of paths in files"):
            read_manifest(tmp_path / "b")

    def test_equal_objects_give_equal_archives(self, static_bundle: Path, host: TargetSpec, tmp_path: Path) -> None:
        """No time, owner or folder of the build is in them."""
        found = static_bundle / LIB / "gnu" / "libtvm_flow.a"
        static_module._archive(tmp_path / "libtvm_flow.a", build_static_runtime(static_module._triple(host, "gnu")))
        assert (tmp_path / "libtvm_flow.a").read_bytes() == found.read_bytes()


class TestProgram:
    def test_three_files_are_enough_on_the_board(self, checker: Path, static_bundle: Path, tmp_path: Path) -> None:
        for name in ("steps.bin", "weights.bin", "golden.bin"):
            shutil.copy(static_bundle / name, tmp_path)
        done = run(checker, tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("3 steps, 2 branches, 2 groups, 2 threads\nweights ")
        assert done.stdout.endswith("the golden output, bit for bit\n")

    def test_it_needs_no_dynamic_loader(self, checker: Path) -> None:
        assert not [name for name in read_elf(checker).undefined if name.startswith("dl")]

    def test_a_bundle_of_another_build_is_refused(self, checker: Path, static_bundle: Path, tmp_path: Path) -> None:
        shutil.copytree(static_bundle, tmp_path / "b")
        old = hashlib.sha256((static_bundle / LIB / "group1.so").read_bytes()).digest()
        steps = (static_bundle / "steps.bin").read_bytes()
        assert steps.count(old) == 1
        body = steps[:-32].replace(old, bytes(32))
        (tmp_path / "b" / "steps.bin").write_bytes(body + hashlib.sha256(body).digest())
        done = run(checker, tmp_path / "b")
        assert done.returncode == 1
        message = "group1.so: expected the library that is linked into this program, got a bundle of another build"
        assert message in done.stderr

    def test_a_program_without_the_groups_says_what_to_link(self, static_bundle: Path, tmp_path: Path) -> None:
        source = RUNTIME / "examples" / "check_bundle.c"
        archive = static_bundle / LIB / "gnu" / "libtvm_flow.a"
        command = ["gcc", "-std=c11", f"-I{static_bundle / 'include'}", "-o", tmp_path / "program", source, archive]
        subprocess.run([*command, "-lm", "-lpthread"], check=True)
        done = run(tmp_path / "program", static_bundle)
        assert done.returncode == 1
        assert "group0.so: expected it among options.linked" in done.stderr and "libtvm_flow_groups.a" in done.stderr


class TestCompile:
    def test_another_kind_is_refused_before_any_work(
        self, exported: Exported, host: TargetSpec, tmp_path: Path
    ) -> None:
        with pytest.raises(ConfigError, match="emit: expected shared or static, got 'wasm'"):
            compile_bundle(exported, host, tmp_path / "b", CompileOptions(progress=False, emit=Emit("wasm")))
        assert not list(tmp_path.iterdir())

    def test_a_program_that_computes_something_else_writes_no_bundle(
        self, host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def link(_files: object, _target: object, _main: object, output: Path, _libc: str) -> None:
            output.write_text("#!/bin/sh\necho golden.bin: 1 of 3 latents differ >&2; exit 1\n")
            output.chmod(0o755)

        written: list[Path] = []
        monkeypatch.setattr(static_module, "link_static", link)
        monkeypatch.setattr(static_module, "write_bundle", lambda path, _: written.append(path))
        contents = type("Contents", (), {"static": {}})
        with pytest.raises(BuildError, match=r"static program: .* got exit code 1: golden\.bin: 1 of 3 latents differ"):
            static_module.check_static(contents, host, tmp_path)  # type: ignore[arg-type]
        assert written == [tmp_path / "static.bundle"]

    def test_shared_and_static_are_not_taken_for_each_other(
        self,
        exported: Exported,
        host: TargetSpec,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        static_bundle: Path,
    ) -> None:
        real, kinds = compile_module._read_back(static_bundle), []
        assert real is not None

        def build(job: compile_module.Job, _work: Path) -> Compiled:
            kinds.append(str(job.options.emit))
            shutil.copytree(static_bundle, tmp_path / "b", dirs_exist_ok=True)
            return replace(real, bundle=tmp_path / "b")

        monkeypatch.setattr(compile_module, "_compile", build)
        for emit in ("shared", "static", "static", "shared"):
            compile_bundle(exported, host, tmp_path / "b", CompileOptions(progress=False, emit=Emit(emit)))
        assert kinds == ["shared", "static", "shared"]

    def test_a_compiler_error_names_the_file(self, static_bundle: Path, host: TargetSpec, tmp_path: Path) -> None:
        broken = tmp_path / "main.c"
        broken.write_text("int main(void) { return undeclared; }")
        files = {path: static_bundle / path for path in read_manifest(static_bundle).static}
        with pytest.raises(
            BuildError, match=r"program: expected zig cc to make it for .*, got exit code 1: (.|\n)*undeclared"
        ):
            static_module.link_static(files, host, broken, tmp_path / "program", "gnu")
        assert not (tmp_path / "program").exists()


def test_rows_carry_the_hash_of_their_own_library() -> None:
    source = emit_linked({"group0": ("first", bytes(range(32))), "group1": ("second", bytes(32))})
    assert '{"group0", &first, sha256[0]}, {"group1", &second, sha256[1]}' in source
    assert f"{{{', '.join(map(str, range(32)))}}}" in source


def test_kernels_for_aarch64_leave_x18_to_the_system() -> None:
    """Android keeps its shadow call stack there. `test_emulate` looks at the code itself."""
    assert "+reserve-x18" in map(str, load_target("snapdragon-a710").tvm().attrs["mattr"])
    assert load_target("snapdragon-a710").c_flags == ("-ffixed-x18",)
    assert "+reserve-x18" not in map(str, load_target("x86-64-v3").tvm().attrs["mattr"])
    assert load_target("x86-64-v3").c_flags == ()
