"""Plans over several devices: segments, copies, a prompt for each branch; two devices of a test beside the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import toy_bundle
from support.sanitized import SANITIZERS
from test_sanitizers import WRAPPED, WRAPPED_FILES, build_whole, run

from tvm_flow.errors import RuntimeFailure
from tvm_flow.pack import write_bundle
from tvm_flow.run import Bundle

DEVICE = (toy_bundle.SOURCES / "toy_device.c",)


def pack(folder: Path, libraries: tuple[Path, Path]) -> Path:
    write_bundle(folder / "split.bundle", toy_bundle.make_contents(libraries))
    return folder / "split.bundle"


@pytest.fixture(scope="module")
def split_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    return pack(folder, toy_bundle.compile_splits(folder))


@pytest.mark.parametrize("name", SANITIZERS)
def test_the_golden_video_comes_from_three_devices(tmp_path: Path, name: str) -> None:
    """Its latents are numpy's; the trace sees every device, and a device that fails breaks nothing."""
    flags = SANITIZERS[name]
    bundle = pack(tmp_path, toy_bundle.compile_splits(tmp_path, flags))
    program = build_whole(tmp_path, "drive_devices", flags, beside=DEVICE)
    for threads in ("1", "3"):
        assert run(program, str(bundle), threads) == "ok\n"


def test_a_group_of_the_cpu_beside_one_of_three_devices(tmp_path: Path) -> None:
    split, _ = toy_bundle.compile_splits(tmp_path)
    (tmp_path / "plain").mkdir()
    _, plain = toy_bundle.compile_groups(tmp_path / "plain")
    bundle = pack(tmp_path, (split, plain))
    program = build_whole(tmp_path, "drive_devices", SANITIZERS["address"], beside=DEVICE)
    assert run(program, str(bundle), "2") == "ok\n"


def test_every_failing_allocation_of_a_device_is_an_error(split_bundle: Path, tmp_path: Path) -> None:
    wraps = [f"-Wl,--wrap={name}" for name in (*WRAPPED, *WRAPPED_FILES)]
    flags = ["-DTOY_DEVICE", *wraps]
    program = build_whole(tmp_path, "fail_allocations", SANITIZERS["address"], *flags, beside=DEVICE)
    counts = dict(line.split() for line in run(program, str(split_bundle)).splitlines())
    # Two devices with four buffers and two plans each come to the twenty of a bundle without them.
    assert int(counts["open"]) > 36 and int(counts["verify"]) >= 3


def test_the_binding_names_the_device_that_it_has_not(split_bundle: Path) -> None:
    with pytest.raises(RuntimeFailure, match=r'group0[.]so: expected a device "toy" among options.devices, got none'):
        Bundle.open(split_bundle)


def test_golden_latents_of_one_other_bit_are_seen(tmp_path: Path) -> None:
    """What proves the others: their golden latents are compared."""
    split = toy_bundle.compile_splits(tmp_path)
    wrong = toy_bundle.make_contents(split)
    latents = wrong.golden.latents.copy()
    latents.view("i4").ravel()[0] ^= 1
    write_bundle(tmp_path / "b", replace(wrong, golden=replace(wrong.golden, latents=latents)))
    program = build_whole(tmp_path, "drive_devices", SANITIZERS["address"], beside=DEVICE)
    with pytest.raises(AssertionError, match="1 of 32 latents differ; first 0"):
        run(program, str(tmp_path / "b"), "1")
