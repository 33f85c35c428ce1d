"""The C package of a region compiles for a board and for firmware, and calls the driver with what vela said."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from support.arm_npu import needs_npu_arm

from tvm_flow.backends.npu.arm.ethos_package import write_package
from tvm_flow.toolchain.arm_npu import EthosStream
from tvm_flow.toolchain.zig import zig_cc

STREAM = EthosStream("ethos-u85-256", b"COP1" + bytes(range(60)), bytes(range(256)), 12, 34, 4096, 128, 512, 1024, 0)
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-O2")
BOARDS = {
    "aarch64-linux-gnu.2.28": (),
    "thumb-freestanding-eabi": ("-mcpu=cortex_m55", "-ffreestanding"),
    "arm-freestanding-eabi": ("-mcpu=cortex_a7", "-ffreestanding"),
}
DRIVER = """
#include <string.h>
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
    assert {path.name for path in write_package(STREAM, "fc1", folder)} == {"fc1.h", "fc1.c", "ethosu_driver.h"}
    return folder


@pytest.mark.parametrize("triple", BOARDS)
def test_it_compiles_for(triple: str, package: Path, tmp_path: Path) -> None:
    output = tmp_path / "fc1.o"
    zig_cc((*STRICT, *BOARDS[triple], "-c", "-o", str(output), str(package / "fc1.c")), "package", triple)
    assert output.read_bytes()[:4] == b"\x7fELF" and STREAM.weights in output.read_bytes()


def test_the_driver_gets_stream_weights_and_regions_and_is_given_back(package: Path, tmp_path: Path) -> None:
    (tmp_path / "driver.c").write_text(DRIVER)
    output = tmp_path / "fc1.so"
    sources = (str(package / "fc1.c"), str(tmp_path / "driver.c"))
    zig_cc((*STRICT, "-shared", "-fPIC", f"-I{package}", "-o", str(output), *sources), "package", "native")
    library = ctypes.CDLL(str(output))
    scratch = (ctypes.c_uint8 * STREAM.scratch_bytes)()
    said = (ctypes.c_int * 8).in_dll(library, "said")
    assert library.fc1_run(scratch, None) == 0
    assert list(said) == [1, 1, len(STREAM.commands), 3, 256, STREAM.scratch_bytes, STREAM.fast_bytes, 1]
    assert ctypes.c_void_p.in_dll(library, "seen").value == ctypes.addressof(scratch)
    ctypes.c_int.in_dll(library, "status").value = 7
    assert library.fc1_run(scratch, None) == 7
    assert ctypes.c_int.in_dll(library, "released").value == 2
    ctypes.c_int.in_dll(library, "available").value = 0
    assert library.fc1_run(scratch, None) == -1


def test_the_header_says_what_a_program_must_provide(package: Path) -> None:
    text = (package / "fc1.h").read_text()
    for word, value in (("SCRATCH_BYTES", 4096), ("FAST_BYTES", 128), ("INPUT_OFFSET", 512), ("OUTPUT_OFFSET", 1024)):
        assert f"#define FC1_{word} {value}u" in text


@needs_npu_arm
def test_a_real_stream_says_where_its_input_and_output_lie() -> None:
    from backends.npu.arm.test_ethos import K, M, N, arrays, region
    from support.relax_kernels import linear

    from tvm_flow.toolchain.arm_npu import ethos_stream

    stream = ethos_stream(region(linear, arrays()[:4]), "ethos-u55-256")
    assert 0 <= stream.input_offset <= stream.scratch_bytes - M * K
    assert 0 <= stream.output_offset <= stream.scratch_bytes - 2 * M * N
