"""Threads and cores by default: big ones only, none that the process may not use, and no more than it has time for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.sanitized import SANITIZERS
from test_sanitizers import SYSTEM, build, run

from tvm_flow.toolchain.runtime_library import RUNTIME

WRAPPED = ("-Wl,--wrap=sched_getaffinity",)
RASPBERRY = (1024,) * 4
RK3588 = (397,) * 4 + (1024,) * 4
"""Four Cortex-A55 and four A76, as its kernel says."""
TENSOR = (160,) * 4 + (640,) * 2 + (1024,) * 2
"""Little, middle and big ones."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cores")
    sources = [RUNTIME / "src" / name for name in ("pool.c", *SYSTEM)]
    root = f'-DSYSTEM_ROOT="{folder}/system"'
    return build(folder, "cores_check", sources, SANITIZERS["address"], root, *WRAPPED)


@pytest.fixture
def system(program: Path) -> Path:
    """An empty root of /sys and /proc that the program looks at."""
    root = program.parent / "system"
    if root.exists():
        root.rename(program.parent / f"system{len(list(program.parent.iterdir()))}")
    root.mkdir()
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def speeds(system: Path, values: dict[int, str]) -> None:
    for cpu, text in values.items():
        write(system / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", text)


def capacities(system: Path, values: tuple[int, ...]) -> None:
    speeds(system, {cpu: f"{value}\n" for cpu, value in enumerate(values)})


@pytest.mark.parametrize(
    ("cores", "usable", "threads", "expected"),
    [
        (RASPBERRY, "f", 0, "4 0 0 f"),
        (RASPBERRY, "6", 0, "2 0 0 6"),
        (RK3588, "ff", 0, "4 0 1 f0"),
        (RK3588, "ff", 2, "2 0 1 f0"),
        (RK3588, "ff", 6, "6 1 0 f0"),
        (RK3588, "3f", 0, "2 0 1 30"),
        (RK3588, "f", 0, "4 0 0 f"),
        (TENSOR, "ff", 0, "4 1 1 f0"),
        (TENSOR, "3f", 0, "2 0 1 30"),
        ((), "3", 0, "2 0 0 3"),
        ((), "ff", 0, "8 0 0 ff"),
        ((397, 397, 1024), "ff", 0, "6 0 1 fc"),
        ((397, 397, 1024, 0), "f", 0, "2 0 1 c"),
        ((397, 0), "3", 0, "2 0 0 3"),
        ((), "0", 0, None),
    ],
)
def test_little_cores_are_left_out_of_what_the_process_may_use(
    program: Path, system: Path, cores: tuple[int, ...], usable: str, threads: int, expected: str | None
) -> None:
    """Of those asked for by number too; more threads than big cores run on all, in more tasks.

    None of these systems has cpufreq, as a container has none: only cpu_capacity is looked at. A core of which that is
    not known, or 0, is taken.
    """
    capacities(system, cores)
    found = run(program, usable, str(threads))
    assert expected is None or found == f"{expected}\n"
    assert int(found.split()[0]) >= 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 4),
        ("200000 100000\n", 2),
        ("250000 100000\n", 2),
        ("50000 100000\n", 1),
        ("9000000 100000\n", 4),
        ("nonsense", 4),
        ("100000", 4),
        ("100000 0\n", 4),
        ("", 4),
    ],
)
def test_no_more_threads_than_the_control_group_has_time_for(
    program: Path, system: Path, quota: str, expected: int
) -> None:
    capacities(system, RASPBERRY)
    write(system / "sys/fs/cgroup/cpu.max", quota)
    assert run(program, "f", "0").split()[0] == str(expected)
    assert run(program, "f", "3").split()[0] == "3", "what is asked for counts"
    assert run(program, "f", "0", "1", "2").split()[0] == "2", "and so do CPUs that are named"


@pytest.mark.parametrize(
    ("capacities", "cpus", "differ"),
    [
        ({}, ["0", "1"], "0"),
        ({0: "1024\n", 1: "1024\n"}, ["0", "1"], "0"),
        ({0: "446\n", 1: "1024\n"}, ["0", "1"], "1"),
        ({0: "446\n", 1: "1024\n"}, ["1"], "0"),
        ({0: "446\n", 1: "nonsense"}, ["0", "1"], "0"),
        ({0: "446\n", 900: "1024\n"}, ["900", "0"], "1"),
    ],
)
def test_named_cores_of_different_speed_are_known(
    program: Path, system: Path, capacities: dict[int, str], cpus: list[str], differ: str
) -> None:
    speeds(system, capacities)
    threads, found, confined, _ = run(program, "0", "0", *cpus).split()
    assert (threads, found, confined) == (str(len(cpus)), differ, "0"), "all that were named run"


def test_a_pool_keeps_off_the_little_core_and_gives_the_caller_its_cores_back(program: Path, system: Path) -> None:
    """On two real cores of which the made-up tree says that one is little."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        pytest.skip(f"needs two CPUs, this process may use {usable}")
    speeds(system, dict.fromkeys(usable, "300\n") | {usable[1]: "1024\n"})
    whole = sum(1 << cpu for cpu in usable)
    assert run(program, "run").split() == ["1", "1", f"{1 << usable[1]:x}", f"{whole:x}"]
