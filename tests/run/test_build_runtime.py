"""The runtime library is compiled once, by pip's compiler, for this machine and for boards."""

from __future__ import annotations

import struct
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import ziglang

from tvm_flow.errors import BuildError
from tvm_flow.toolchain import runtime_library as build
from tvm_flow.toolchain import versions
from tvm_flow.toolchain.runtime_library import build_runtime, build_static_runtime


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TVM_FLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(("triple", "machine"), [("x86_64-linux-gnu.2.28", 62), ("aarch64-linux-gnu.2.28", 183)])
def test_zig_has_no_complaint(cache: Path, triple: str, machine: int) -> None:
    library = build_runtime(triple)
    head = library.read_bytes()[:20]
    assert head[:4] == b"\x7fELF" and struct.unpack("<H", head[18:20]) == (machine,)
    stamp = library.stat().st_mtime_ns
    assert build_runtime(triple) == library and library.stat().st_mtime_ns == stamp
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["libtvm_flow.so"]


def test_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TVM_FLOW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_directory() == tmp_path / "tvm-flow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.cache_directory() == tmp_path / ".cache" / "tvm-flow"


def test_a_compiler_error_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.c"
    broken.write_text("int f(void) { return undeclared; }")
    monkeypatch.setattr(build, "runtime_sources", lambda: [broken])
    said = r"^runtime libtvm_flow\.so: expected zig cc to make it for .*, got exit code 1: (.|\n)*undeclared"
    with pytest.raises(BuildError, match=said):
        build_runtime()
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_missing_compiler_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", absent)
    with pytest.raises(BuildError, match="pip install ziglang"):
        build_runtime()
    assert not cache.exists()


def test_another_flag_or_triple_is_another_library() -> None:
    keys = {build._key(triple, flags) for triple in ("a", "b") for flags in (build.C_FLAGS, (*build.C_FLAGS, "-g"))}
    assert len(keys) == 4


# Of the functions that Bionic exports since API 21 (AOSP, libc/libc.map.txt), those that the runtime uses; frexp: libm.
BIONIC_21 = (
    "pthread_sigmask sigfillset clock_gettime "
    "__sched_cpucount calloc close fclose fgetc frexp fopen free fscanf fstat getauxval malloc memchr memcmp memcpy "
    "fstatvfs getpid madvise pread read sysconf "
    "memmove memset mmap munmap open posix_memalign pthread_cond_broadcast pthread_cond_destroy "
    "pthread_cond_init pthread_cond_wait pthread_create pthread_join pthread_mutex_destroy pthread_mutex_init "
    "pthread_mutex_lock pthread_mutex_unlock sched_getaffinity sched_setaffinity sched_yield snprintf strchr "
    "strcasecmp strcmp strcspn strdup strerror strlen strncmp strrchr strspn vsnprintf"
)


@pytest.mark.usefixtures("cache")
def test_android_has_every_function_that_is_used() -> None:
    listing = subprocess.run(
        ["nm", "-u", build_static_runtime("aarch64-linux-musl")], capture_output=True, text=True, check=True
    )
    needed = {line.split()[-1] for line in listing.stdout.splitlines() if " U " in line}
    assert "sched_setaffinity" in needed
    assert needed - {"__errno_location"} <= set(BIONIC_21.split()), "musl's name of errno; Android's differs"


def test_it_compiles_for_android_with_another_systems_headers(tmp_path: Path) -> None:
    """What asks the system for something; clang's own conventions for Android, musl's headers for want of Bionic's."""
    headers = Path(ziglang.__file__).parent / "lib" / "libc" / "include"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-android.24", *build.C_FLAGS, "-c"]
    for name in ("aarch64-linux-musl", "generic-musl", "aarch64-linux-any", "any-linux-any"):
        command += ["-isystem", str(headers / name)]
    for name in ("affinity", "cpu", "elf", "file", "load", "platform_dl", "platform_posix", "pool", "services"):
        source = build.RUNTIME / "src" / f"{name}.c"
        done = subprocess.run([*command, "-o", tmp_path / "x.o", source], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("triple", ["x86_64-linux-gnu.2.34", "aarch64-linux-musl"])
def test_the_static_runtime_needs_no_dynamic_loader(cache: Path, triple: str) -> None:
    found = build_static_runtime(triple)
    assert found.is_relative_to(cache)
    listing = subprocess.run(["nm", str(found)], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listing.splitlines()]
    needed = {row[-1] for row in rows if row[-2] == "U"}
    assert "pthread_create" in needed
    assert not [name for name in needed if name.startswith("dl")]
    assert not [name for name in needed if "stat" in name and name not in ("fstat", "fstatvfs")], (
        "a name that only one glibc has"
    )
    assert {"tvm_flow_open", "tvm_flow_generate"} <= {row[-1] for row in rows if row[-2] == "T"}
