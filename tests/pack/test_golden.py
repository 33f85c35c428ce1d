"""The golden pair comes back as it was packed; a damaged bundle is named."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, read_golden


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "copy"))


def test_comes_back_bit_for_bit(bundle_dir: Path, contents: Contents) -> None:
    packed, read = contents.golden, read_golden(bundle_dir)
    for mine, its in (
        (packed.noise, read.noise),
        (packed.latents, read.latents),
        (packed.cond.tokens, read.cond.tokens),
        (packed.cond.mask, read.cond.mask),
        (packed.uncond.tokens, read.uncond.tokens),
        (packed.uncond.mask, read.uncond.mask),
    ):
        assert (its.shape, its.dtype) == (mine.shape, np.float32)
        assert its.tobytes() == mine.tobytes()


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match=rf"{re.escape(str(path))}: expected a bundle.*run tvm-flow compile"):
            read_golden(path)


@pytest.mark.parametrize("name", ["steps.bin", "golden.bin"])
def test_an_absent_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_golden(copy)


@pytest.mark.parametrize("length", [0, 1, 8, 100, 191])
def test_a_short_header_is_named(copy: Path, length: int) -> None:
    (copy / "steps.bin").write_bytes((copy / "steps.bin").read_bytes()[:length])
    with pytest.raises(BundleError, match=r"steps\.bin: expected a header of 192 bytes"):
        read_golden(copy)


@pytest.mark.parametrize("change", [-4, 4, -1, 3])
def test_another_size_is_refused(copy: Path, change: int) -> None:
    data = (copy / "golden.bin").read_bytes()
    (copy / "golden.bin").write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(BundleError, match=r"golden\.bin: expected \d+ numbers .*compile the bundle again"):
        read_golden(copy)


def test_another_magic_is_refused(copy: Path) -> None:
    data = (copy / "steps.bin").read_bytes()
    (copy / "steps.bin").write_bytes(b"X" + data[1:])
    with pytest.raises(BundleError, match=r"steps\.bin: expected the magic"):
        read_golden(copy)


def test_another_schema_is_refused(copy: Path) -> None:
    data = (copy / "steps.bin").read_bytes()
    (copy / "steps.bin").write_bytes(data[:8] + b"\1" + data[9:])
    with pytest.raises(BundleError, match=r"steps\.bin: expected schema 2 or 3, got 1; compile the bundle again"):
        read_golden(copy)


@pytest.mark.parametrize("position", range(16, 192))
def test_any_damaged_byte_of_the_header_is_an_error_or_harmless(copy: Path, bundle_dir: Path, position: int) -> None:
    """Nothing but BundleError comes out, and no array of another shape."""
    data = bytearray((copy / "steps.bin").read_bytes())
    data[position] ^= 0xFF
    (copy / "steps.bin").write_bytes(data)
    sound = read_golden(bundle_dir)
    try:
        read = read_golden(copy)
    except BundleError:
        return
    assert read.noise.size == sound.noise.size
