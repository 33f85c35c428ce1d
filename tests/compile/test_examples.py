"""The C examples build with make and CMake, static and shared, and make the golden video. For ARM: `test_emulate`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.example_programs import EXAMPLES, golden_frames, headers, read_frames, run, with_cmake, with_make

from tvm_flow.toolchain.runtime_library import build_runtime

Builder = Callable[..., Path]
WAYS = [(builder, link) for builder in (with_make, with_cmake) for link in ("static", "shared")]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0].__name__}-{way[1]}")
def built(request: pytest.FixtureRequest, static_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs; its name ends in how they are linked."""
    builder, link = request.param
    folder = tmp_path_factory.mktemp("examples") / link
    folder.mkdir()
    return Path(builder(folder, static_bundle, f"LINK={link}"))


def test_the_video_is_the_golden_one(built: Path, static_bundle: Path, tmp_path: Path) -> None:
    done = subprocess.run([built / "make_video", static_bundle, tmp_path], capture_output=True, text=True, check=True)
    assert done.stderr == "step 1 of 3\nstep 2 of 3\nstep 3 of 3\n"
    np.testing.assert_array_equal(read_frames(tmp_path), golden_frames(static_bundle))


def test_a_seed_gives_another_video_and_the_same_again(built: Path, static_bundle: Path, tmp_path: Path) -> None:
    videos = []
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / name).mkdir()
        run(built / "make_video", static_bundle, tmp_path / name, seed)
        videos.append(read_frames(tmp_path / name))
    assert (videos[0] == videos[2]).all() and (videos[0] != videos[1]).any()
    assert (videos[0] != golden_frames(static_bundle)).any()


def test_the_bundle_is_checked(built: Path, static_bundle: Path) -> None:
    assert run(built / "check_bundle", static_bundle, 1).endswith("the golden output, bit for bit\n")


def test_only_the_shared_program_needs_a_loader(built: Path) -> None:
    for name in ("make_video", "check_bundle"):
        said = headers(built / name)
        if built.name == "static":
            assert "There is no dynamic section in this file" in said and "INTERP" not in said
        else:
            assert "INTERP" in said and "[libtvm_flow.so]" in said


def test_mistakes_are_one_line(built: Path, static_bundle: Path, tmp_path: Path) -> None:
    for words, message in (
        ([], "usage: make_video BUNDLE FOLDER [SEED]"),
        ([tmp_path, tmp_path], "steps.bin: expected a readable file"),
        ([static_bundle, tmp_path / "nowhere"], "frame000.pgm: No such file or directory"),
    ):
        done = subprocess.run([built / "make_video", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.parametrize("builder", [with_make, with_cmake])
def test_a_bundle_without_archives_says_how_to_compile_it(builder: Builder, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"got none; compile the bundle with\s+--emit static"):
        builder(tmp_path / "out", tmp_path, "LINK=static")


def test_the_video_program_fits_a_page() -> None:
    assert len((EXAMPLES / "make_video.c").read_text().splitlines()) <= 60


def test_the_runtime_of_cmake_exports_what_pythons_does(built: Path) -> None:
    if built.name == "static":
        return
    (library,) = built.rglob("libtvm_flow.so")
    names = [run("nm", "-D", "--defined-only", "-j", path).split() for path in (library, build_runtime())]
    assert set(names[0]) == set(names[1]) and "tvm_flow_open" in names[0]
