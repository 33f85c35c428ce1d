"""Compiled pipelines on disk: read where they are whole and this driver's, left alone where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.vulkan_plans import constants

from tvm_flow.bench.driven import Driven, Plan

HEADER = 104
"""Bytes of ours before those of the driver."""


def computes(plan: Plan, folder: Path) -> list[str]:
    """What was logged besides the device's name, the time of its pipelines, and where its weights lie.

    A numpy array lies at a page, or not: the driver may read it there, or gets a copy.
    """
    with Driven(plan, cache=str(folder).encode()) as driven:
        driven.step(constants(1))
        driven.write(0, np.arange(13))
        driven.run()
        assert (driven.read(1) == np.arange(13) * np.arange(256, 269) + 1).all()
        return [
            line for line in driven.memory.lines[1:] if "pipelines in" not in line and "the weights are" not in line
        ]


@pytest.fixture
def cache(affine: Plan, tmp_path: Path) -> Path:
    """The one file, in a folder that was made for it."""
    assert computes(affine, tmp_path / "cache") == []
    (path,) = (tmp_path / "cache").iterdir()
    return path


def test_it_is_read_again_and_written_no_more(affine: Plan, cache: Path) -> None:
    assert cache.suffix == ".pipelines" and cache.read_bytes()[:8] == b"TFVKPIPE"
    before = cache.stat()
    assert computes(affine, cache.parent) == []
    assert (cache.stat().st_ino, cache.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_fifo_in_its_place_is_not_waited_for(affine: Plan, cache: Path) -> None:
    cache.unlink()
    os.mkfifo(cache)
    computes(affine, cache.parent)


@pytest.mark.parametrize("byte", [0, 8, 12, 16, 20, 24, 28, 32, 48, 80, 88, HEADER - 8, HEADER, HEADER + 16, -1])
def test_one_that_is_damaged_anywhere_is_made_again(affine: Plan, cache: Path, byte: int) -> None:
    whole = bytearray(cache.read_bytes())
    good = bytes(whole)
    whole[byte] ^= 1
    cache.write_bytes(whole)
    (line,) = computes(affine, cache.parent)
    assert "damaged: pipelines are compiled again" in line
    assert len(cache.read_bytes()) == len(good) and cache.read_bytes()[:88] == good[:88]


@pytest.mark.parametrize("size", [0, 7, HEADER, HEADER + 31, -1])
def test_one_that_was_cut_is_made_again(affine: Plan, cache: Path, size: int) -> None:
    good = cache.read_bytes()
    cache.write_bytes(good[:size])
    computes(affine, cache.parent)
    assert len(cache.read_bytes()) == len(good)


def test_a_folder_that_cannot_be_is_no_error(affine: Plan, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lines = computes(affine, tmp_path / "file" / "cache")
    assert any("no folder for compiled pipelines" in line for line in lines)
    assert any("compiled pipelines are not kept" in line for line in lines)
