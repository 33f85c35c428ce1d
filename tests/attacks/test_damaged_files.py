"""Damage on disk, met by the C runtime alone, as on a board: a typed error each time, never a crash."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support import toy_bundle
from support.attack_programs import Attack

from tvm_flow.errors import BundleError
from tvm_flow.pack import verify_bundle, write_bundle
from tvm_flow.pack.index import read_index
from tvm_flow.run.status import Status
from tvm_flow.sampler import SamplerConfig

GROUPS_AT = 256
PATH_AT = GROUPS_AT + 40


def status_of(output: str) -> tuple[Status, str]:
    number, _, message = output.strip().partition(" ")
    return Status(int(number)), message


def test_the_undamaged_bundle_runs(attack_with_threads: Attack, victim: Path) -> None:
    assert status_of(attack_with_threads("try_open", victim)) == (Status.OK, "")


@pytest.mark.parametrize("seed", [1, 2])
def test_fuzzed_index(attack: Attack, victim: Path, seed: int) -> None:
    before = (victim / "steps.bin").read_bytes()
    rows = [line.split() for line in attack("fuzz_index", victim, str(seed), "400").splitlines()]
    counts = {kind: dict(zip(Status, map(int, numbers), strict=True)) for kind, *numbers in rows}
    for kind in ("cut", "flip"):
        assert sum(counts[kind].values()) > 50
        refused = {status for status, count in counts[kind].items() if count}
        assert refused <= {Status.CORRUPT, Status.WRONG_SCHEMA}, kind
    forged = counts["forge"]
    assert sum(forged.values()) == 400
    # Some forgeries only change numbers: they run. Most do not survive, and none for want of memory or threads.
    assert forged[Status.OK] > 0 and forged[Status.CORRUPT] > 100
    assert not {Status.INVALID_ARGUMENT, Status.NO_THREAD, Status.KERNEL_FAILED} & {s for s in forged if forged[s]}
    assert (victim / "steps.bin").read_bytes() == before


def test_fuzzed_index_of_a_sampler_that_draws(attack: Attack, tmp_path: Path) -> None:
    contents = toy_bundle.sampled_contents(tmp_path, SamplerConfig(name="iddpm", steps=8))
    write_bundle(tmp_path / "b", contents)
    assert status_of(attack("try_open", tmp_path / "b")) == (Status.OK, "")
    rows = [line.split() for line in attack("fuzz_index", tmp_path / "b", "3", "200").splitlines()]
    forged = dict(zip(Status, map(int, rows[-1][1:]), strict=True))
    assert rows[-1][0] == "forge" and sum(forged.values()) == 200
    assert forged[Status.OK] > 0 and forged[Status.CORRUPT] > 50


def forge(bundle: Path, change: Callable[[bytearray], object]) -> None:
    """Change steps.bin and make its digest fit."""
    data = bytearray((bundle / "steps.bin").read_bytes()[:-32])
    change(data)
    (bundle / "steps.bin").write_bytes(data + hashlib.sha256(data).digest())


def set_path(path: bytes) -> Callable[[bytearray], object]:
    return lambda data: struct.pack_into("152s", data, PATH_AT, path)


def test_layout_that_the_attacks_assume(victim: Path) -> None:
    data = (victim / "steps.bin").read_bytes()
    assert data[PATH_AT:].startswith(b"lib/toy/group0.so\0")


PATHS = [
    *(b"../../../etc/passwd", b"/etc/passwd", b"lib/../../x.so", b"..", b".", b"", b"lib//x.so", b"lib/"),
    *(b"lib/./x.so", b"lib\\..\\x.so", b"x" * 152),
]


@pytest.mark.parametrize("path", PATHS)
def test_library_paths_that_leave_the_bundle(attack: Attack, victim: Path, path: bytes) -> None:
    forge(victim, set_path(path))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT
    assert "library of group 0: expected a relative path inside the bundle; do not use it" in message


def test_a_library_that_is_absent(attack: Attack, victim: Path) -> None:
    forge(victim, set_path(b"lib/toy/other.so"))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.FILE_ERROR and "lib/toy/other.so: expected a readable file" in message


def test_a_swapped_library_is_not_loaded(attack: Attack, victim: Path) -> None:
    """Loading runs constructors: one that leaves a file behind must not get that far."""
    witness = victim.parent / "witness"
    source = victim.parent / "evil.c"
    source.write_text(
        f'#include <stdio.h>\n__attribute__((constructor)) static void run(void) {{ fopen("{witness}", "w"); }}\n'
    )
    evil = victim / "lib/toy/group0.so"
    size = evil.stat().st_size
    toy_bundle.compile_c(evil, [source], "-shared", "-fPIC")
    evil.write_bytes(evil.read_bytes().ljust(size, b"\0"))  # its size would give it away
    assert not witness.exists()
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and "group0.so: expected sha256" in message
    assert not witness.exists()
    ctypes.CDLL(str(evil))
    assert witness.exists(), "the attack itself must work"


def test_groups_in_the_wrong_order(attack: Attack, victim: Path) -> None:
    """Both libraries are genuine; group 0 names the one that wants longer variants."""

    def swap(data: bytearray) -> None:
        one, two = slice(GROUPS_AT, GROUPS_AT + 192), slice(GROUPS_AT + 192, GROUPS_AT + 384)
        data[one], data[two] = data[two], data[one]
        sizes = (
            struct.unpack_from("<I", data, GROUPS_AT + 32)[0],
            struct.unpack_from("<I", data, GROUPS_AT + 224)[0],
        )
        struct.pack_into("<I", data, GROUPS_AT + 32, sizes[1])
        struct.pack_into("<I", data, GROUPS_AT + 224, sizes[0])

    forge(victim, swap)
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and "group1.so: needs 7 floats a variant, but the bundle has 5" in message


@pytest.mark.parametrize("name", ["weights.bin", "golden.bin", "steps.bin", "lib/toy/group1.so"])
@pytest.mark.parametrize("damage", ["empty", "short", "long", "absent", "folder", "fifo"])
def test_every_file_in_every_wrong_way(attack: Attack, victim: Path, name: str, damage: str) -> None:
    path = victim / name
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "fifo":
        os.mkfifo(path)
    elif damage != "absent":
        path.write_bytes({"empty": b"", "short": data[:-1], "long": data + b"\0"}[damage])
    status, message = status_of(attack("try_open", victim))
    assert status is (Status.CORRUPT if damage in ("empty", "short", "long") else Status.FILE_ERROR)
    assert Path(name).name in message


@pytest.mark.parametrize("name", ["weights.bin", "golden.bin"])
def test_one_bit_of_data(attack: Attack, victim: Path, name: str) -> None:
    data = bytearray((victim / name).read_bytes())
    data[100] ^= 1
    (victim / name).write_bytes(data)
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and message.startswith(f"{name}: expected sha256")


def test_weights_too_small_for_the_library(attack: Attack, victim: Path) -> None:
    """A genuine-looking index over weights that end before the library's last tensor."""
    short = (victim / "weights.bin").read_bytes()[:256]
    (victim / "weights.bin").write_bytes(short)
    forge(victim, lambda data: struct.pack_into("<Q32s", data, 104, 256, hashlib.sha256(short).digest()))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and "needs 512 bytes of weights, but the bundle has 256" in message


@pytest.mark.parametrize(("offset", "value"), [(52, 4), (52, 1 << 27), (56, 3), (64, 8), (68, 1)])
def test_shapes_that_the_library_does_not_have(attack: Attack, victim: Path, offset: int, value: int) -> None:
    forge(victim, lambda data: struct.pack_into("<I", data, offset, value))
    status, message = status_of(attack("try_open", victim))
    assert status in (Status.BAD_LIBRARY, Status.CORRUPT), message
    assert "as many values as steps.bin says" in message or "expected" in message


def test_an_index_of_another_schema(attack: Attack, victim: Path) -> None:
    forge(victim, lambda data: struct.pack_into("<I", data, 8, 1))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.WRONG_SCHEMA and "expected schema 2 or 3, got 1; compile the bundle again" in message


UPDATES_AT = 704
"""After header and sampler (64 bytes), two groups and the timesteps (64 bytes)."""


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_update_constants_that_are_not_finite(
    attack: Attack, victim: Path, step: int, column: int, value: float
) -> None:
    assert struct.unpack_from("<2d", (victim / "steps.bin").read_bytes(), UPDATES_AT) == (1.0, 0.25)
    forge(victim, lambda data: struct.pack_into("<d", data, UPDATES_AT + 40 * step + 8 * column, value))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and f"update {step}: expected finite numbers and no negative sigma" in message
    with pytest.raises(BundleError, match=r"steps\.bin"):
        read_index(victim / "steps.bin")


def test_a_negative_sigma(attack: Attack, victim: Path) -> None:
    forge(victim, lambda data: struct.pack_into("<d", data, UPDATES_AT + 16, -1e-300))
    assert status_of(attack("try_open", victim))[0] is Status.CORRUPT
    with pytest.raises(BundleError, match="no negative sigma"):
        read_index(victim / "steps.bin")


@pytest.mark.parametrize("value", [-1e308, 1e308])
@pytest.mark.parametrize("column", range(5))
def test_huge_constants_run_without_harm(attack: Attack, victim: Path, column: int, value: float) -> None:
    """Numbers that are finite and absurd: latents that are none are an error, nothing is undefined on the way."""
    value = abs(value) if column == 2 else value
    forge(victim, lambda data: struct.pack_into("<d", data, UPDATES_AT + 40 * 3 + 8 * column, value))
    # Without a variance the exponential is not looked at.
    expected = Status.OK if column > 2 else Status.NOT_FINITE
    assert status_of(attack("try_open", victim))[0] is expected


def test_a_variance_that_the_library_does_not_predict(attack: Attack, victim: Path) -> None:
    forge(victim, lambda data: struct.pack_into("<I", data, 44, 8))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.BAD_LIBRARY and "output 9: expected as many values as steps.bin says" in message


@pytest.mark.parametrize("channels", [0, 1, 5, 12, 1 << 31, (1 << 32) - 1])
def test_output_channels_that_belong_to_no_sampler(attack: Attack, victim: Path, channels: int) -> None:
    forge(victim, lambda data: struct.pack_into("<I", data, 44, channels))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and f"output channels: expected 4 or 8, got {channels}" in message
    with pytest.raises(BundleError, match="4 or 8 output channels"):
        read_index(victim / "steps.bin")


def test_steps_that_say_they_are_unchecked_contradict_the_manifest(attack: Attack, victim: Path) -> None:
    """C reads no manifest: it opens them, and has nothing to compare with."""
    forge(victim, lambda data: struct.pack_into("<I", data, 188, 2**32 - 1))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.NOT_GOLDEN and "unchecked" in message
    with pytest.raises(BundleError):
        verify_bundle(victim)


@pytest.mark.parametrize("steps", [5, 2**32 - 2])
def test_more_golden_steps_than_steps(attack: Attack, victim: Path, steps: int) -> None:
    forge(victim, lambda data: struct.pack_into("<I", data, 188, steps))
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and f"golden steps: expected 0 to 4, got {steps}" in message
    with pytest.raises(BundleError):
        verify_bundle(victim)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0, 100.5])
def test_both_readers_refuse_the_same_guidance(attack: Attack, victim: Path, scale: float) -> None:
    verify_bundle(victim)
    forge(victim, lambda data: struct.pack_into("<d", data, 176, scale))
    with pytest.raises(BundleError, match=f"cfg scale: expected 0 to 100, got {scale}"):
        read_index(victim / "steps.bin")
    status, message = status_of(attack("try_open", victim))
    assert status is Status.CORRUPT and f"cfg scale: expected 0 to 100, got {scale:g}" in message
