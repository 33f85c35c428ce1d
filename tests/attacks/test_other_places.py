"""Bundles whose files lie in memory, within a package or behind a reader: found, checked and used all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import toy_decoder
from support.attack_programs import Attack

from tvm_flow.pack import Contents
from tvm_flow.run.status import Status


@pytest.fixture
def decoding(contents: Contents, tmp_path: Path) -> Path:
    toy_decoder.write_decoding(tmp_path / "b", contents)
    return tmp_path / "b"


def test_every_place_of_a_file_is_as_good_as_a_folder(
    attack_with_threads: Attack, decoding: Path, tmp_path: Path
) -> None:
    lines = attack_with_threads("from_elsewhere", decoding, tmp_path / "package").splitlines()
    said = dict(line.split(": ", 1) for line in lines)
    for place in ("memory", "odd memory", "pages", "lines", "odd", "reader"):
        assert said.pop(place) == "0 0 0 0 0 ", place
    causes = {
        "none": (Status.FILE_ERROR, "none from options.find"),
        "beyond": (Status.FILE_ERROR, "a part beyond its end"),
        "wrapped": (Status.FILE_ERROR, "a part beyond its end"),
        "no end": (Status.FILE_ERROR, "a size that no memory holds"),
        "no reader": (Status.FILE_ERROR, "a reader that cannot"),
        "a folder": (Status.FILE_ERROR, "no regular file"),
        "a pipe": (Status.FILE_ERROR, "no regular file"),
    }
    for place, (status, cause) in causes.items():
        first, second, words = said.pop(place).split(" ", 2)
        assert (int(first), int(second)) == (status, status), place
        assert words.startswith("an asset/") and cause in words, place
    assert said.pop("short").startswith(f"{Status.CORRUPT} {Status.CORRUPT} decoder.bin: ")
    assert not said
