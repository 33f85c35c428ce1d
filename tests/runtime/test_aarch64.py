"""The runtime on ARM, under qemu: a bundle packed here gives the same bits there.

The program is static, with the toy group linked in, because a cross C library to load others with is not part of a
checkout. Everything else is what a board runs. zig builds its C library at the first run, which takes a
minute, and keeps it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle

from tvm_flow.pack import Contents, Golden, write_bundle
from tvm_flow.sampler import SamplerConfig
from tvm_flow.toolchain.runtime_library import RUNTIME, runtime_sources

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
pytestmark = pytest.mark.skipif(QEMU is None, reason="no qemu-aarch64: apt-get install qemu-user-static")


def cross_compile(output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path:
    includes = [f"-I{RUNTIME / 'include'}", f"-I{RUNTIME / 'src'}"]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-static", "-std=c11"]
    command += [
        "-D_GNU_SOURCE",
        "-DLINKED",
        "-O1",
        "-ffp-contract=off",
        *flags,
        *includes,
        "-o",
        str(output),
        *map(str, sources),
    ]
    result = subprocess.run([*command, "-lm", "-lpthread"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return output


def emulate(program: Path, *arguments: str, cpu: str = "max") -> subprocess.CompletedProcess[str]:
    assert QEMU is not None
    command = [QEMU, "-cpu", cpu, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    c = toy_bundle.SOURCES
    parts = [c / "drive.c", c / "toy_group.c", *runtime_sources()]
    return cross_compile(tmp_path_factory.mktemp("aarch64") / "drive", *parts)


@pytest.fixture(scope="module")
def one_group(contents: Contents) -> Contents:
    """Every step runs group 0, the one that is linked in; golden latents by numpy on this machine."""
    golden = contents.golden
    single = toy_bundle.of_one_group(contents)
    request = toy_bundle.Request(golden.noise, golden.cond, golden.uncond)
    latents = toy_bundle.generate(single, request)
    return replace(single, golden=Golden(golden.noise, golden.cond, golden.uncond, latents))


@pytest.mark.parametrize(("threads", "handles"), [("1", "1"), ("3", "2")])
def test_same_bits_as_here(driver: Path, one_group: Contents, tmp_path: Path, threads: str, handles: str) -> None:
    write_bundle(tmp_path / "b", one_group)
    result = emulate(driver, str(tmp_path / "b"), threads, handles)
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr


def test_a_sampler_that_draws_gives_the_same_bits(tmp_path: Path) -> None:
    """Noise, logarithm and exponential of the runtime, against numpy's on this machine."""
    contents = toy_bundle.sampled_contents(tmp_path, SamplerConfig(name="iddpm", steps=50))
    write_bundle(tmp_path / "b", contents)
    flags = tuple(f"-DTOY_{name.upper()}={value}" for name, value in toy_bundle.LEARNED.items())
    c = toy_bundle.SOURCES
    program = cross_compile(tmp_path / "drive", c / "drive.c", c / "toy_group.c", *runtime_sources(), flags=flags)
    result = emulate(program, str(tmp_path / "b"), "1", "1")
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr


def test_one_other_bit_is_seen(driver: Path, one_group: Contents, tmp_path: Path) -> None:
    latents = one_group.golden.latents.copy()
    latents.view("i4").ravel()[3] ^= 1
    write_bundle(tmp_path / "b", replace(one_group, golden=replace(one_group.golden, latents=latents)))
    result = emulate(driver, str(tmp_path / "b"), "1", "1")
    assert result.returncode == 1 and "1 of 32 latents differ; first 3" in result.stderr


# qemu's core, and what of these its kernel reports.
CORES = {
    "cortex-a72": {"neon"},
    "cortex-a76": {"neon", "dotprod"},
    "neoverse-n1": {"neon", "dotprod"},
    "max": {"neon", "dotprod", "i8mm", "sve", "sve2"},
    "max,sve=off": {"neon", "dotprod", "i8mm"},
}


def test_features_come_from_the_kernel(tmp_path: Path) -> None:
    sources = [toy_bundle.SOURCES / "cpu_check.c", RUNTIME / "src" / "cpu.c", RUNTIME / "src" / "error.c"]
    program = cross_compile(tmp_path / "cpu_check", *sources)
    for accepted in ("", "neon", "asimd +fp-armv8", "neon lse dotprod fullfp16"):
        assert emulate(program, accepted).stdout == "0 \n", accepted
    for refused in ("avx2", "neon avx2", "dotproduct"):
        assert emulate(program, refused).stdout.startswith("7 x.so: its kernels use"), refused
    for cpu, reported in CORES.items():
        for feature in sorted(CORES["max"]):
            said = emulate(program, feature, cpu=cpu).stdout
            expected = "0 \n" if feature in reported else f"7 x.so: its kernels use {feature}, which this processor"
            assert said.startswith(expected), (cpu, feature)
