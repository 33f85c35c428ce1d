"""Damaged and forged decoder.bin, met by the C runtime alone."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support import toy_bundle, toy_decoder

from tvm_flow.pack import Contents, write_bundle
from tvm_flow.run import native
from tvm_flow.run.status import Status

LATENT, CHUNK, FRAMES = 16, 32, 36
"""Where decoder.bin has its latent shape, chunk and frames' shape."""


@pytest.fixture
def decoding(contents: Contents, tmp_path: Path) -> Path:
    toy_decoder.write_decoding(tmp_path / "b", contents)
    return tmp_path / "b"


def forge(bundle: Path, change: Callable[[bytearray], object]) -> None:
    data = bytearray((bundle / "decoder.bin").read_bytes()[:-32])
    change(data)
    (bundle / "decoder.bin").write_bytes(data + hashlib.sha256(data).digest())


def verify(bundle: Path) -> tuple[Status, str]:
    """Of the first that fails: opening, and decoding the golden latents."""
    runtime, pointer, error = native.load_runtime(), ctypes.c_void_p(), native.CError()
    status = runtime.tvm_flow_decoder_open(os.fsencode(bundle), None, ctypes.byref(pointer), ctypes.byref(error))
    if not status:
        status = runtime.tvm_flow_decoder_verify(pointer, ctypes.byref(error))
        runtime.tvm_flow_decoder_close(pointer)
    return Status(status), error.message.decode()


def test_layout_that_the_attacks_assume(decoding: Path) -> None:
    assert struct.unpack_from("<9I", (decoding / "decoder.bin").read_bytes(), LATENT) == (4, 2, 2, 2, 1, 2, 2, 2, 3)
    assert verify(decoding)[0] is Status.OK


def test_more_frames_than_a_number_holds(decoding: Path) -> None:
    """2^16 chunks of 2^16 frames would be 0 frames in 32 bits, and a buffer of 0 bytes."""
    forge(decoding, lambda data: struct.pack_into("<9I", data, LATENT, 4, 1 << 16, 2, 2, 1, 1 << 16, 1, 1, 3))
    status, message = verify(decoding)
    assert status is Status.CORRUPT and "frames, at most: expected 4294967295, got 4294967296" in message


@pytest.mark.parametrize("shape", [(2, 4, 1, 3), (1, 4, 2, 3)])
def test_rows_and_columns_that_are_not_the_librarys(decoding: Path, shape: tuple[int, ...]) -> None:
    forge(decoding, lambda data: struct.pack_into("<4I", data, FRAMES, *shape))
    status, message = verify(decoding)
    assert status is Status.CORRUPT and "an extent of its library's frames: expected 2, got" in message


@pytest.mark.parametrize("shape", [(0, 2, 2, 3), (2, 2, 2, 4), (1 << 31, 1, 1, 3), (1 << 16, 1 << 16, 1 << 16, 3)])
def test_sizes_that_no_video_has(decoding: Path, shape: tuple[int, ...]) -> None:
    forge(decoding, lambda data: struct.pack_into("<4I", data, FRAMES, *shape))
    status, message = verify(decoding)
    assert status is Status.CORRUPT and "expected sizes of at most 2^30 values" in message


def test_flipped_bits_are_refused(decoding: Path) -> None:
    """Some of them: scripts/fuzz flips each."""
    good = (decoding / "decoder.bin").read_bytes()
    for bit in range(0, 8 * len(good), 37):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        (decoding / "decoder.bin").write_bytes(bad)
        status, message = verify(decoding)
        assert status in (Status.CORRUPT, Status.WRONG_SCHEMA) and message.startswith("decoder.bin"), bit


def test_damaged_golden_latents_are_not_this_machines_fault(decoding: Path) -> None:
    golden = bytearray((decoding / "golden.bin").read_bytes())
    golden[-1] ^= 1
    (decoding / "golden.bin").write_bytes(golden)
    status, message = verify(decoding)
    assert status is Status.CORRUPT and message.startswith("golden.bin: expected sha256")


def test_a_library_linked_at_another_base_runs(contents: Contents, tmp_path: Path) -> None:
    library = toy_bundle.compile_c(
        tmp_path / "toy.so",
        [toy_bundle.SOURCES / "toy_decoder.c"],
        *("-O1", "-fPIC", "-shared", "-DTOY_CHUNK=1", "-Wl,-Ttext-segment=0x7000000"),
    )
    write_bundle(tmp_path / "b", toy_decoder.with_decoder(contents, library))
    assert verify(tmp_path / "b") == (Status.OK, "")
