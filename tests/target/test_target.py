"""Targets: YAML files, and the machine this runs on as its operating system describes it."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from unittest.mock import Mock

import pytest
from tvm.target.codegen import llvm_get_cpu_features

from tvm_flow.backends.cpu import choose_isa
from tvm_flow.compile.command import compile_bundle
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export import Exported
from tvm_flow.target import spec as target_module
from tvm_flow.target.feature_names import ARM as ARM_NAMES
from tvm_flow.target.features import llvm_features
from tvm_flow.target.spec import TargetSpec, detect_host, load_target
from tvm_flow.target.target_names import targets_folder
from tvm_flow.toolchain.runtime_library import RUNTIME

GOOD = "name: board\ntriple: aarch64-linux-gnu\ncpu: cortex-a76\nfeatures: [dotprod]\n"
ARM = {
    **dict.fromkeys(["armv8-a", "raspberry-pi-4"], "neon"),
    **dict.fromkeys(["raspberry-pi-5", "rk3588", "jetson-orin-cpu", "imx93", "neoverse-n1"], "sdot"),
    **dict.fromkeys(["snapdragon-a710", "neoverse-n2", "neoverse-v1"], "smmla"),
    **dict.fromkeys([f"vulkan-{gpu}" for gpu in ("adreno-6xx", "mali-g610", "raspberry-pi-5", "jetson-orin")], "sdot"),
    **dict.fromkeys([f"vulkan-{gpu}" for gpu in ("adreno-7xx", "adreno-8xx", "mali-g710", "mali-g720")], "smmla"),
    **dict.fromkeys(["vulkan-immortalis-g715", "vulkan-powervr-dxt"], "smmla"),
}
OLD = "sse2 pni ssse3 sse4_1 sse4_2"
SSE = {"sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "crc32"}
INTEL = f"processor : 0\nmodel name : Intel\nflags : fpu {OLD} avx avx2 fma f16c avx_vnni\n\nflags : fpu\n"
SERVER = f"flags\t\t: {OLD} avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_4vnniw\n"
HIDDEN = f"flags : {OLD} avx\n"  # a virtual machine that hides avx2 and more of a znver4


@pytest.fixture
def host_of(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def detect(cpuinfo: str, cpu: str) -> TargetSpec:
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(target_module, "llvm_get_system_cpu", lambda: cpu)
        monkeypatch.setattr(Path, "read_text", lambda _path: cpuinfo)
        return detect_host()

    return detect


def attributes(spec: TargetSpec) -> set[str]:
    return set(map(str, spec.tvm().attrs["mattr"]))


class TestHost:
    def test_linux_names_become_llvm_names(self, host_of) -> None:  # type: ignore[no-untyped-def]
        assert host_of(INTEL, "alderlake").features == SSE | {"avx", "avx2", "fma", "f16c", "avxvnni"}
        assert host_of(SERVER, "cascadelake").features == {
            *(*SSE, "avx", "avx2", "fma", "f16c"),
            *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"),
        }

    def test_every_feature_that_llvm_may_use_is_declared_or_switched_off(self, host_of) -> None:  # type: ignore[no-untyped-def]
        """A library with GFNI in it that declares only AVX-512 would die on the next machine."""
        spec = host_of(f"flags : {OLD} abm bmi1 bmi2 avx avx2 fma f16c avx512f avx512vl avx512bw", "znver4")
        assert {"sse3", "lzcnt", "bmi", "bmi2"} <= spec.features
        implied = {str(name) for name in llvm_get_cpu_features(spec.tvm())}
        assert {"gfni", "avx512vbmi", "avx512bf16", "sha", "pclmul", "vaes"} <= spec.disabled
        assert not implied & {"gfni", "avx512vbmi", "avx512bf16", "sha", "pclmul", "vaes"}

    def test_what_a_virtual_machine_hides_is_switched_off(self, host_of) -> None:  # type: ignore[no-untyped-def]
        spec = host_of(HIDDEN, "znver4")
        assert spec.features == SSE | {"avx"}
        assert {"avx2", "fma", "avx512f", "avx512vnni"} <= spec.disabled
        assert not spec.features & spec.disabled
        assert {"+avx", "-avx2", "-avx512f", "-avx512vnni"} <= attributes(spec)

    def test_nothing_is_switched_off_that_the_name_does_not_imply(self, host_of) -> None:  # type: ignore[no-untyped-def]
        spec = host_of(f"flags : {OLD} popcnt cx16 lahf_lm", "nehalem")
        assert spec.disabled == frozenset()
        assert not {name for name in attributes(spec) if name.startswith("-")}

    @pytest.mark.parametrize("cpuinfo", ["", "flags\n", "Features : fp asimd\n"])
    def test_a_file_without_flags_promises_what_every_x86_64_has(self, cpuinfo: str, host_of) -> None:  # type: ignore[no-untyped-def]
        assert host_of(cpuinfo, "x86-64").features == {"sse2"}

    def test_a_phone_offers_what_its_system_reports_not_what_its_core_has(
        self,
        host_of,
        monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
    ) -> None:
        host_of("", "x86-64")  # replaces what follows
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        monkeypatch.setattr(target_module, "llvm_get_system_cpu", lambda: "cortex-a710")
        monkeypatch.setattr(Path, "read_text", lambda _path: "Features : fp asimd atomics asimddp i8mm\n")
        spec = detect_host()
        assert spec.features == {"neon", "lse", "dotprod", "i8mm"}
        assert {"sve", "sve2", "bf16", "mte", "fullfp16"} <= spec.disabled

    def test_an_architecture_without_checks_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "machine", lambda: "riscv64")
        with pytest.raises(ConfigError, match=r"riscv64-linux-gnu: expected an architecture .* can check"):
            detect_host()

    def test_this_machine(self) -> None:
        spec = load_target("host")
        assert spec.name == "host"
        assert spec.triple == f"{platform.machine()}-linux-gnu"
        assert spec.zig_triple == f"{platform.machine()}-linux-gnu.2.28"
        assert spec.features


class TestFiles:
    @pytest.mark.parametrize("path", sorted(targets_folder().glob("*.yaml")), ids=lambda path: path.stem)
    def test_shipped_targets_load_under_their_own_name(self, path: Path) -> None:
        spec = load_target(path.stem)
        assert spec.name == path.stem
        assert {f"+{name}" for name in spec.features} <= attributes(spec)
        assert spec.board.source

    @pytest.mark.parametrize("name", ARM)
    def test_features_are_implied_by_the_cpu_and_can_be_checked(self, name: str) -> None:
        spec = load_target(name)
        implied = llvm_features(spec.triple, spec.cpu)
        assert spec.features | spec.disabled <= implied
        checkable = re.findall(r'\{"(\w+)", AT_HWCAP2?,', (RUNTIME / "src" / "cpu.c").read_text())
        assert spec.features <= set(checkable)
        # What the kernels may use without a check crashes where it is absent.
        assert implied - ARM_NAMES.harmless <= spec.features | spec.disabled

    @pytest.mark.parametrize(("name", "isa"), ARM.items())
    def test_boards_get_the_kernels_of_their_core(self, name: str, isa: str) -> None:
        spec = load_target(name)
        assert spec.triple == "aarch64-linux-gnu"
        assert choose_isa(spec.features).name == isa
        assert {f"-{feature}" for feature in spec.disabled} <= attributes(spec)

    def test_all_arm_files_are_listed_here(self) -> None:
        found = {path.stem for path in targets_folder().glob("*.yaml") if "aarch64" in path.read_text()}
        assert found == set(ARM)

    @pytest.mark.parametrize("name", sorted(set(ARM) - {"armv8-a"}))
    def test_a_board_says_how_many_cores_it_has(self, name: str) -> None:
        board = load_target(name).board
        assert board.big + board.little > 0
        known = [size for size in (board.l1d_kib, board.l2_kib, board.l3_kib) if size]
        assert known == sorted(set(known)) != []
        assert bool(board.little_cpu) == bool(board.big and board.little)

    def test_phones_of_one_generation_differ_in_bf16_and_offer_no_sve(self) -> None:
        """Snapdragon 8 Gen 1 reports bf16, 8+ Gen 1 does not: a library that says it uses it would be refused there."""
        spec = load_target("snapdragon-a710")
        assert spec.features == {"neon", "lse", "fullfp16", "dotprod", "i8mm"}
        assert {"sve", "sve2", "bf16", "mte", "sve-bitperm"} <= spec.disabled and not spec.features & spec.disabled

    def test_cores_and_caches_of_a_board(self) -> None:
        board = load_target("rk3588").board
        assert (board.big, board.little, board.little_cpu, board.l2_kib) == (4, 4, "cortex-a55", 512)

    def test_a_file_is_named_by_its_path(self, tmp_path: Path) -> None:
        (tmp_path / "my.yaml").write_text(GOOD)
        spec = load_target(str(tmp_path / "my.yaml"))
        assert spec == TargetSpec("board", "aarch64-linux-gnu", "cortex-a76", frozenset({"dotprod"}))
        assert spec.zig_triple == "aarch64-linux-gnu.2.28"

    def test_features_may_be_left_out(self, tmp_path: Path) -> None:
        for text in (GOOD.replace("features: [dotprod]\n", ""), GOOD.replace("[dotprod]", "")):
            (tmp_path / "my.yaml").write_text(text)
            spec = load_target(str(tmp_path / "my.yaml"))
            assert spec.features == {"neon"}
            assert {name for name in attributes(spec) if name.startswith("+")} == {"+neon", "+reserve-x18"}
            assert llvm_features(spec.triple, spec.cpu) - ARM_NAMES.harmless - {"neon"} == spec.disabled

    @pytest.mark.parametrize("listed", ["dotprod", "asimd, asimddp", "neon, dotprod", "ASIMDDP"])
    def test_the_example_gets_the_dot_product_in_every_spelling(self, tmp_path: Path, listed: str) -> None:
        (tmp_path / "my.yaml").write_text(GOOD.replace("dotprod", listed))
        spec = load_target(str(tmp_path / "my.yaml"))
        assert choose_isa(spec.features).name == "sdot"
        assert spec.features == {"neon", "dotprod"} and spec.describe()["features"] == ["dotprod", "neon"]

    def test_the_levels_of_x86_list_all_that_kernels_gain_from(self) -> None:
        v2, v3, v4 = (load_target(f"x86-64-v{level}").features for level in (2, 3, 4))
        assert v2 < v3 < v4
        assert {"popcnt", "ssse3"} <= v2 and {"bmi", "bmi2", "lzcnt", "movbe"} <= v3 and "avx512cd" in v4

    @pytest.mark.parametrize("name", ["raspberry", "x86-64-v9", "", "absent.yaml"])
    def test_an_unknown_name_lists_the_known_ones(self, name: str) -> None:
        with pytest.raises(ConfigError, match=rf"target {re.escape(repr(name))}: .*armv8-a, host, .*x86-64-v2, x86"):
            load_target(name)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[", "expected a readable YAML target"),
            ("[" * 5000, "expected a readable YAML target"),
            ("", "expected the keys name, triple, cpu"),
            ("- a", "expected the keys"),
            (GOOD + "speed: 9\n", "expected the keys .*speed"),
            (GOOD.replace("cpu: cortex-a76\n", ""), "expected the keys"),
            (GOOD.replace("board", "a/b"), "name: expected letters"),
            (GOOD.replace("board", ".."), "name: expected letters"),
            (GOOD.replace("board", "3"), "name: expected letters"),
            (GOOD.replace("aarch64-", "z80-"), "triple: expected one of aarch64-linux-gnu, .*got 'z80-linux-gnu'"),
            (GOOD.replace("linux", "darwin"), "triple: expected one of"),
            (GOOD.replace("aarch64", "riscv64"), "triple: expected one of .* can be checked; got 'riscv64-linux-gnu'"),
            (GOOD.replace("[dotprod]", "[neon, dotprodd]"), "features: .*got 'dotprodd', near dotprod; known are"),
            (GOOD.replace("[dotprod]", "[avx2]"), "features: .*got 'avx2'"),
            (GOOD + "disabled: [sve9]\n", "disabled: .*got 'sve9', near sve"),
            (GOOD + "disabled: [dotprod]\n", "disabled: expected nothing that features lists or needs; got .*dotprod"),
            (GOOD + "disabled: [asimd]\n", "disabled: expected nothing that features lists or needs; got .*neon"),
            (GOOD.replace("cortex-a76", "cortex-z99"), "cpu: expected one of LLVM's names for aarch64.*cortex-a76"),
            (GOOD.replace("[dotprod]", "dotprod"), "features: expected a list"),
            (GOOD.replace("[dotprod]", "[4.2]"), "features: expected a list"),
            (GOOD.replace("[dotprod]", "['+a,-b']"), "features: expected a list"),
            (GOOD + "disabled: sve\n", "disabled: expected a list"),
            (GOOD + "cores: 4\n", "cores: expected a mapping with keys among big, little"),
            (GOOD + "cores: {tiny: 4}\n", "cores: expected a mapping"),
            (GOOD + "cores: {big: '4'}\n", "big: expected a whole number above 0; got '4'"),
            (GOOD + "cores: {big: true}\n", "big: expected a whole number"),
            (GOOD + "cache: {l2_kib: 0}\n", "l2_kib: expected a whole number above 0"),
            (GOOD + "source: 3\n", "source: expected a text"),
            ("name: \udce9\n", "expected a readable YAML target"),
        ],
    )
    def test_a_wrong_file_is_named_with_its_key(self, tmp_path: Path, text: str, message: str) -> None:
        """TVM would crash on some of these, and quietly compile for another CPU on others."""
        path = tmp_path / "wrong.yaml"
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(ConfigError, match=rf"wrong\.yaml: {message}"):
            load_target(str(path))


def test_a_target_that_cannot_run_here_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    other = TargetSpec("board", "riscv64-linux-gnu", "generic", frozenset())
    with pytest.raises(BuildError, match=r"target board.*riscv64-linux-gnu.*no bundle is written unchecked"):
        compile_bundle(Mock(spec=Exported), other, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
