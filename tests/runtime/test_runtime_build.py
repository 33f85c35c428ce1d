"""The runtime compiles without a warning, stays small, and agrees with TVM's headers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support import toy_bundle

from tvm_flow.toolchain.runtime_library import C_FLAGS, RUNTIME, runtime_sources

# The public API, and nothing else, may be visible.
_NAMES = (
    "open",
    "close",
    "describe_sized",
    "version",
    "velocity",
    "gaussian",
    "generate",
    "verify",
    "set_trace",
    "cancel",
    "plan_sized",
    "trim",
    "preview_rgb8",
)
_HANDLE = ("open", "close", "describe_sized", "verify", "set_trace", "cancel", "plan_sized", "trim")
_DECODER = ("decode", "decode_rgb8", "decode_with", *(f"decoder_{name}" for name in _HANDLE))
_PROMPT = ("prompt_open", "null_prompt", "prompt_close")
API = {f"tvm_flow_{name}" for name in (*_NAMES, *_DECODER, *_PROMPT, "built_for_gnu", "cause_of")}
# gcc 12.2, -Os, stripped, x86_64, 2026-11-26: 59752 bytes; a page more or less hangs on a few bytes of code.
SIZE_LIMIT = 64_000
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"]


def site_packages() -> Path:
    tvm_ffi = pytest.importorskip("tvm_ffi")
    return Path(tvm_ffi.__file__).parent.parent


@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_gcc_has_no_complaint(tmp_path: Path, level: str) -> None:
    flags = [*STRICT, level, "-fPIC", "-shared", "-fvisibility=hidden", "-Wpedantic", "-Wstrict-prototypes"]
    if level == "-O2":
        flags += ["-Wcast-align", "-Wundef", "-Wvla", "-Wformat=2"]
    toy_bundle.compile_c(tmp_path / "runtime.so", runtime_sources(), *flags)


def test_public_headers_stand_alone_in_c_and_cpp(tmp_path: Path) -> None:
    for header in (path.name for path in sorted((RUNTIME / "include").glob("*.h"))):
        for compiler, standard in (("gcc", "-std=c99"), ("g++", "-std=c++11")):
            source = tmp_path / ("use.c" if compiler == "gcc" else "use.cc")
            source.write_text(f'#include "{header}"\n#include "{header}"\n')
            command = [compiler, standard, *STRICT, "-Wpedantic", "-fsyntax-only", f"-I{RUNTIME / 'include'}"]
            result = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
            assert result.returncode == 0, f"{header}: {result.stderr}"


def test_cppcheck_has_no_complaint() -> None:
    if shutil.which("cppcheck") is None:
        pytest.skip("cppcheck is not installed: apt-get install cppcheck")
    defines = ["-D__x86_64__", "-D__BYTE_ORDER__=1234", "-D__ORDER_LITTLE_ENDIAN__=1234", "-D__GNUC__=12"]
    command = ["cppcheck", "--enable=warning,style,performance,portability", "--std=c11", "-q", *defines]
    own = sorted((RUNTIME / "signature").glob("*.c"))
    command += [f"-I{RUNTIME / 'include'}", "--suppress=*:*monocypher*"]
    command += ["--error-exitcode=1", *map(str, [RUNTIME / "src", RUNTIME / "include", *own])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_size_and_symbols(tmp_path: Path) -> None:
    flags = [
        "-Os",
        "-fPIC",
        "-shared",
        "-s",
        "-fvisibility=hidden",
        "-ffunction-sections",
        "-Wl,--gc-sections",
        *(flag for flag in C_FLAGS if "unwind" in flag),
    ]
    library = toy_bundle.compile_c(tmp_path / "runtime.so", runtime_sources(), *flags)
    size = library.stat().st_size
    print(f"runtime: {size} bytes at -Os, stripped")
    assert size <= SIZE_LIMIT
    listing = subprocess.run(["nm", "-D", str(library)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    assert {row[2] for row in rows if len(row) == 3 and row[1] in "TDBR"} == API
    foreign = {row[-1] for row in rows if row[-2] == "U" and "@" not in row[-1]}
    assert not foreign, "only versioned symbols of glibc may be needed"


def test_declarations_agree_with_tvm_headers(tmp_path: Path) -> None:
    include = site_packages() / "tvm_ffi" / "include"
    flags = [*STRICT[:3], "-fsyntax-only", f"-I{include}"]
    toy_bundle.compile_c(tmp_path / "unused", [toy_bundle.SOURCES / "abi_check.c"], *flags)


def test_parallel_group_agrees_with_tvm_header() -> None:
    packages = site_packages()
    if not (packages / "tvm" / "include").is_dir():
        pytest.skip("apache-tvm is not installed, so its headers are absent")
    includes = [RUNTIME / "include", packages / "tvm" / "include", packages / "tvm_ffi" / "include"]
    command = ["g++", "-std=c++17", "-fsyntax-only", *(f"-I{path}" for path in includes)]
    source = str(toy_bundle.SOURCES / "group_check.cc")
    result = subprocess.run([*command, source], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_no_tvm_header_is_needed() -> None:
    for path in [*RUNTIME.rglob("*.c"), *RUNTIME.rglob("*.h")]:
        for line in path.read_text().splitlines():
            assert not line.startswith("#include <tvm") and not line.startswith("#include <dlpack"), path


def test_one_header_and_its_files_know_the_system() -> None:
    system = re.compile(r"#\s*include\s*<(pthread|sched|fcntl|dlfcn|unistd|signal|time|sys/.*|linux/.*)\.h>")
    knowing = {path.name for path in (RUNTIME / "src").iterdir() if system.search(path.read_text())}
    assert knowing == {"platform.h", "platform_dl.c", "platform_posix.c"}
    memory = re.compile(r"\b(malloc|calloc|realloc|free|strdup|posix_memalign|aligned_alloc)\(")
    assert {path.name for path in (RUNTIME / "src").iterdir() if memory.search(path.read_text())} == {
        "platform_posix.c"
    }


def test_files_fit_a_few_screens() -> None:
    """But for others' code, which stays as it is."""
    ours = (path for path in RUNTIME.rglob("*.[ch]") if path.parent.name != "monocypher")
    for path in ours:
        lines = path.read_text().splitlines()
        assert len(lines) <= 220, f"{path.name} has {len(lines)} lines"
        assert max(map(len, lines)) <= 120, path.name
