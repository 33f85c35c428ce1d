"""The C package of regions compiles for boards and firmware, and asks drivers for what vela said."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.arm_npu import needs_npu_arm
from support.qemu import QEMU

from tvm_flow.backends.npu.arm.ethos_package import stream_offset, write_package
from tvm_flow.backends.npu.package_call import PackageCall
from tvm_flow.errors import BuildError
from tvm_flow.toolchain.arm_npu import EthosStream, ethos_stream
from tvm_flow.toolchain.zig import zig_cc

_WORDS = (0x31504F43, 0x00100001, 1, 2, 5, 5, 0x00030002, 0x12F, 7, 0xFFFF0000)
COMMANDS = struct.pack("<10I", *_WORDS)
STREAM = EthosStream("ethos-u85-256", COMMANDS, bytes(range(256)), 12, 34, 4096, 128, (512, 768), 1024, 0)
SCALES = (0.1, 2.0**-11)
CALLS = [PackageCall(*of, *SCALES) for of in (("k0", "fc1", 0, 0), ("k1", "fc2", 0, 1), ("k0", "fc1", 0, 1))]
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-O2")
FIRMWARE = {
    "thumb-freestanding-eabi": ("-mcpu=cortex_m55", "-ffreestanding"),
    "arm-freestanding-eabi": ("-mcpu=cortex_a7", "-ffreestanding"),
}
ARM_GCC = shutil.which("arm-none-eabi-gcc")
LINUX = ("aarch64-linux-gnu.2.28", "arm-linux-gnueabihf.2.28", "aarch64-linux-musl")
PLAYED = Path(__file__).parent / "c" / "played_driver.c"
RENAMED = [f"-D{name}=played_{name}" for name in ("open", "close", "ioctl", "mmap", "munmap")]
DRIVER = """
#include <string.h>
#include "ethosu_bare.h"
#include "ethosu_driver.h"
struct ethosu_driver { int reserved; } only;
int available = 1, released, status, said[8];
const uint8_t *seen;
struct ethosu_driver *ethosu_reserve_driver(void) { return available ? &only : 0; }
void ethosu_release_driver(struct ethosu_driver *driver) { released += driver == &only; }
int ethosu_invoke_v3(struct ethosu_driver *driver, const void *commands, const int commands_bytes,
                     uint64_t *const addresses, const size_t *sizes, const int regions, void *user) {
  said[0] = driver == &only && user == 0;
  said[1] = memcmp(commands, "COP1", 4) == 0 && (uintptr_t)commands % 16 == 0;
  said[2] = commands_bytes;
  said[3] = regions;
  for (int i = 0; i < 3; i++) said[4 + i] = (int)sizes[i];
  said[7] = (uintptr_t)addresses[0] % 16 == 0 && ((const uint8_t *)(uintptr_t)addresses[0])[255] == 255;
  seen = (const uint8_t *)(uintptr_t)addresses[1];
  return status;
}
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    files = write_package({"fc1": STREAM, "fc2": replace(STREAM, cycles=1000)}, CALLS, "step", folder)
    names = ["ethosu_region.h", "ethosu_driver.h", "ethosu_bare.h", "ethosu_bare.c"]
    names += ["ethosu_accel.h", "ethosu_linux.h", "ethosu_linux.c", "step.h", "step.c"]
    assert sorted(path.name for path in files) == sorted(names)
    return folder


@pytest.mark.parametrize("triple", [*FIRMWARE, *LINUX])
def test_it_compiles_for(triple: str, package: Path, tmp_path: Path) -> None:
    for name in ("step", "ethosu_bare", *(["ethosu_linux"] if triple in LINUX else [])):
        output, flags = tmp_path / f"{name}.o", FIRMWARE.get(triple, ())
        zig_cc((*STRICT, *flags, "-c", "-o", str(output), str(package / f"{name}.c")), "package", triple)
        assert output.read_bytes()[:4] == b"\x7fELF"
    assert STREAM.weights in (tmp_path / "step.o").read_bytes()


@pytest.mark.skipif(not ARM_GCC, reason="arm-none-eabi-gcc not found; apt-get install gcc-arm-none-eabi")
@pytest.mark.parametrize("core", ["cortex-m55", "cortex-m4"])
def test_it_compiles_for_bare_metal_by_arms_own_compiler(core: str, package: Path, tmp_path: Path) -> None:
    output = tmp_path / "package.o"
    sources = [str(package / name) for name in ("step.c", "ethosu_bare.c")]
    flags = (*STRICT, f"-mcpu={core}", "-mthumb", "-mfloat-abi=soft", "-ffreestanding", "-nostdlib", "-r")
    done = subprocess.run([str(ARM_GCC), *flags, "-o", str(output), *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert STREAM.weights in output.read_bytes()


def test_arms_driver_gets_stream_weights_and_regions_and_is_given_back(package: Path, tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    output = tmp_path / "package.so"
    sources = (*(str(package / name) for name in ("step.c", "ethosu_bare.c")), str(tmp_path / "driver.c"))
    zig_cc((*STRICT, "-shared", "-fPIC", f"-I{package}", "-o", str(output), *sources), "package", "native")
    library = ctypes.CDLL(str(output))
    region = ctypes.byref(ctypes.c_char.in_dll(library, "fc1"))
    scratch = (ctypes.c_uint8 * STREAM.scratch_bytes)()
    said = (ctypes.c_int * 8).in_dll(library, "said")
    assert library.ethosu_bare_run(region, scratch, None) == 0
    assert list(said) == [1, 1, len(STREAM.commands), 3, 256, STREAM.scratch_bytes, STREAM.fast_bytes, 1]
    assert ctypes.c_void_p.in_dll(library, "seen").value == ctypes.addressof(scratch)
    ctypes.c_int.in_dll(library, "status").value = 7
    assert library.ethosu_bare_run(region, scratch, None) == 7
    assert ctypes.c_int.in_dll(library, "released").value == 2
    ctypes.c_int.in_dll(library, "available").value = 0
    assert library.ethosu_bare_run(region, scratch, None) == -1


def linux_program(package: Path, folder: Path, triple: str) -> Path:
    """The package with a driver that is played; both calls of the system renamed."""
    objects, output = [str(folder / "linux.o")], folder / "linux"
    strict = (*STRICT, f"-I{package}")
    zig_cc((*strict, *RENAMED, "-c", "-o", objects[0], str(package / "ethosu_linux.c")), "package", triple)
    sources = (str(PLAYED), str(package / "step.c"), *objects)
    zig_cc((*strict, "-D_GNU_SOURCE", "-DREGION=fc1", "-static", "-o", str(output), *sources), "package", triple)
    return output


def test_linux_driver_is_asked_for_buffers_and_a_job_and_nothing_is_left_whatever_fails(
    package: Path, tmp_path: Path
) -> None:
    done = subprocess.run([linux_program(package, tmp_path, "x86_64-linux-musl")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr


@pytest.mark.skipif(not QEMU, reason="qemu-aarch64 not found; apt-get install qemu-user-static")
def test_the_same_on_aarch64(package: Path, tmp_path: Path) -> None:
    program = linux_program(package, tmp_path, "aarch64-linux-musl")
    done = subprocess.run([str(QEMU), program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "10\n"), done.stderr


def test_the_header_says_what_a_program_must_provide_and_what_a_step_takes(package: Path) -> None:
    text = (package / "step.h").read_text()
    said = {"SCRATCH_BYTES": 4096, "FAST_BYTES": 128, "INPUT_OFFSET": 512, "INPUT1_OFFSET": 768, "OUTPUT_OFFSET": 1024}
    for word, value in said.items():
        assert f"#define FC1_{word} {value}u" in text
    assert "#define STEP_NUM_CALLS 3" in text and "#define STEP_CYCLES 1068ull" in text


class TestStream:
    def test_the_accelerators_words_begin_after_what_the_driver_sets(self) -> None:
        assert stream_offset(COMMANDS) == 28

    @pytest.mark.parametrize(
        "commands",
        [b"", b"COP1", COMMANDS[:-4], COMMANDS[:-1], COMMANDS + b"\5\0\0\0", b"COP2" + COMMANDS[4:], COMMANDS[:20]],
    )
    def test_another_is_refused(self, commands: bytes) -> None:
        with pytest.raises(BuildError, match="expected COP1 and one stream to its end"):
            stream_offset(commands)


@needs_npu_arm
@pytest.mark.parametrize("accelerator", ["ethos-u55-256", "ethos-u85-2048"])
def test_a_real_stream_says_where_its_words_its_input_and_output_lie(accelerator: str) -> None:
    from backends.npu.arm.test_ethos import K, M, N, arrays, region
    from support.relax_kernels import linear

    stream = ethos_stream(region(linear, arrays()[:4]), accelerator)
    (offset,) = stream.input_offsets
    assert 0 <= offset <= stream.scratch_bytes - M * K
    assert 0 <= stream.output_offset <= stream.scratch_bytes - 2 * M * N
    words = stream.commands[stream_offset(stream.commands) :]
    assert words[-4:] == struct.pack("<I", 0xFFFF0000), "stop"
