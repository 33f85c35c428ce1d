"""The runtime's own C under the address, undefined-behaviour and thread sanitizers, and without memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from support import toy_bundle
from support.sanitized import OPTIMIZED, SANITIZERS, sanitized_runtime

from tvm_flow.pack import write_bundle
from tvm_flow.sampler import SamplerConfig
from tvm_flow.toolchain.runtime_library import RUNTIME

SYSTEM = ("affinity.c", "cores.c", "error.c", "host.c", "platform_posix.c")
WRAPPED = ("malloc", "calloc", "posix_memalign", "strdup", "mmap", "pthread_create")
WRAPPED_FILES = ("open", "fstat", "fstatvfs", "pread", "write", "fcntl")


def run(program: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1:abort_on_error=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "TSAN_OPTIONS": f"halt_on_error=1:suppressions={toy_bundle.SOURCES / 'tsan.supp'}",
    }
    result = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def build(folder: Path, name: str, sources: list[Path], *flags: str) -> Path:
    source = toy_bundle.SOURCES / f"{name}.c"
    return toy_bundle.compile_c(folder / name, [source, *sources], *OPTIMIZED, *flags)


def build_whole(folder: Path, name: str, sanitizer: str, *flags: str, beside: tuple[Path, ...] = ()) -> Path:
    """With all of the runtime and the C files ``beside``; ``flags`` are for these and the link."""
    return build(folder, name, [*beside, sanitized_runtime(sanitizer)], sanitizer, *flags)


@pytest.fixture(scope="module", params=SANITIZERS)
def sanitizer(request: pytest.FixtureRequest) -> str:
    return SANITIZERS[request.param]


@pytest.fixture(scope="module")
def driver(sanitizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_whole(tmp_path_factory.mktemp("driver"), "drive", sanitizer)


@pytest.fixture(scope="module")
def watched_bundle(sanitizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy bundle with kernels under the same sanitizer, so that their arena accesses are watched too."""
    folder = tmp_path_factory.mktemp("watched")
    libraries = toy_bundle.compile_groups(folder, sanitizer)
    write_bundle(folder / "toy.bundle", toy_bundle.make_contents(libraries))
    return folder / "toy.bundle"


@pytest.fixture(scope="module")
def drawing_bundle(sanitizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose steps draw noise, with a learned variance."""
    folder = tmp_path_factory.mktemp("drawing")
    write_bundle(folder / "b", toy_bundle.sampled_contents(folder, SamplerConfig(name="iddpm", steps=4), 1, sanitizer))
    return folder / "b"


@pytest.mark.parametrize(("threads", "handles"), [(1, 1), (2, 2)])
def test_whole_api_of_a_sampler_that_draws(driver: Path, drawing_bundle: Path, threads: int, handles: int) -> None:
    assert run(driver, str(drawing_bundle), str(threads), str(handles)) == "ok\n"


@pytest.mark.parametrize(("threads", "handles"), [(1, 1), (3, 1), (2, 3), (0, 2)])
def test_whole_api(driver: Path, watched_bundle: Path, threads: int, handles: int) -> None:
    assert run(driver, str(watched_bundle), str(threads), str(handles)) == "ok\n"


def test_pool_runs_each_task_once(sanitizer: str, tmp_path: Path) -> None:
    sources = [RUNTIME / "src" / name for name in ("pool.c", *SYSTEM)]
    assert run(build(tmp_path, "pool_check", sources, sanitizer)) == "ok\n"


def test_workers_run_where_they_are_bound(sanitizer: str, tmp_path: Path) -> None:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        pytest.skip(f"needs two CPUs to bind threads to, this process may use {usable}")
    sources = [RUNTIME / "src" / name for name in ("pool.c", *SYSTEM)]
    program = build(tmp_path, "affinity_check", sources, sanitizer)
    assert run(program, str(usable[0]), str(usable[1])) == "ok\n"


def test_services_inside_and_outside_of_tasks(sanitizer: str, tmp_path: Path) -> None:
    sources = [RUNTIME / "src" / name for name in ("services.c", "pool.c", *SYSTEM)]
    assert run(build(tmp_path, "services_check", sources, sanitizer)) == "ok\n"


def test_a_program_of_an_older_version_runs(bundle_dir: Path, tmp_path: Path, sanitizer: str) -> None:
    program = build_whole(tmp_path, "version_check", sanitizer)
    assert run(program, str(bundle_dir)) == "ok\n"


def test_workers_leave_signals_to_the_application(bundle_dir: Path, tmp_path: Path, sanitizer: str) -> None:
    assert run(build_whole(tmp_path, "signal_check", sanitizer), str(bundle_dir)) == "ok\n"


def test_every_failing_allocation_is_an_error(sanitizer: str, bundle_dir: Path, tmp_path: Path) -> None:
    """And every thread that does not start, beside those that did."""
    wraps = [f"-Wl,--wrap={name}" for name in (*WRAPPED, *WRAPPED_FILES)]
    program = build_whole(tmp_path, "fail_allocations", sanitizer, *wraps)
    counts = dict(line.split() for line in run(program, str(bundle_dir)).splitlines())
    # Two threads, two groups, three maps and a dozen buffers: fewer would mean that --wrap missed some.
    assert int(counts["open"]) > 20 and int(counts["verify"]) >= 3
    # Three files and two libraries, each opened, looked at twice, and read or written and sealed.
    assert int(counts["files-open"]) >= 18 and int(counts["files-verify"]) >= 3
    # The program's own allocator serves all but maps and threads.
    assert int(counts["lent-open"]) > 15 and int(counts["lent-verify"]) >= 2


def test_sha256_of_every_padding(tmp_path: Path) -> None:
    program = build(tmp_path, "sha_check", [RUNTIME / "src" / "sha256.c"], SANITIZERS["address"])
    lengths = [*range(0, 200), 4095, 4096, 5000]
    got = run(program, *map(str, lengths)).split()
    data = bytes(i % 256 for i in range(5000))
    assert got == [hashlib.sha256(data[:length]).hexdigest() for length in lengths]


def flags_of_this_cpu() -> set[str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line.split(":")[1] for line in lines if line.startswith("flags")), "").split())


def test_cpu_features_in_both_spellings(tmp_path: Path) -> None:
    flags = flags_of_this_cpu()
    if not {"sse4_2", "pni", "avx2"} <= flags:
        pytest.skip(f"needs an x86 with AVX2 to look for, this one reports {len(flags)} flags")
    program = build(
        tmp_path, "cpu_check", [RUNTIME / "src" / "cpu.c", RUNTIME / "src" / "error.c"], SANITIZERS["address"]
    )
    for accepted in ("", "  ", "avx2", "+avx2 +sse4.2", "sse4_2  sse3 ", "sse4.2", "lzcnt pclmul bmi"):
        assert run(program, accepted) == "0 \n", accepted
    for refused in ("avx9000", "avx2 avx9000", "avx", "a" * 100, "flags", "bugs", "model", "amd64"):
        if refused in flags:
            continue
        assert run(program, refused).startswith("7 x.so: its kernels use "), refused
