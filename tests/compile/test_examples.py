"""The C examples build with make and CMake, static and shared, and make the video that Python makes.

For ARM: `test_board_walk` and `test_emulate`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support.example_programs import EXAMPLES, expected_frames, headers, read_frames, run, with_cmake, with_make
from support.signed_bundles import KEY, MODEL, files_of, public

from tvm_flow.pack import read_golden
from tvm_flow.pack.prompt_file import write_prompt
from tvm_flow.pack.signature import sign_bundle
from tvm_flow.toolchain.runtime_library import build_runtime

Builder = Callable[..., Path]
WAYS = [(builder, link) for builder in (with_make, with_cmake) for link in ("static", "shared")]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[0].__name__}-{way[1]}")
def built(request: pytest.FixtureRequest, ending_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the programs; its name ends in how they are linked."""
    builder, link = request.param
    folder = tmp_path_factory.mktemp("examples") / link
    folder.mkdir()
    return Path(builder(folder, ending_bundle, f"LINK={link}"))


@pytest.fixture(scope="module")
def prompt(ending_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompt") / "prompt.bin"
    write_prompt(path, read_golden(ending_bundle).cond)
    return path


@pytest.mark.parametrize("seed", [0, 7])
def test_the_video_is_the_one_that_python_makes(
    built: Path, ending_bundle: Path, prompt: Path, tmp_path: Path, seed: int
) -> None:
    command = [built / "make_video", ending_bundle, prompt, tmp_path, *([str(seed)] if seed else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "step 1 of 3\nstep 2 of 3\nstep 3 of 3\n"
    np.testing.assert_array_equal(read_frames(tmp_path), expected_frames(ending_bundle, prompt, seed))


def test_a_seed_gives_another_video_and_the_same_again(
    built: Path, ending_bundle: Path, prompt: Path, tmp_path: Path
) -> None:
    videos = []
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / name).mkdir()
        run(built / "make_video", ending_bundle, prompt, tmp_path / name, seed)
        videos.append(read_frames(tmp_path / name))
    assert (videos[0] == videos[2]).all() and (videos[0] != videos[1]).any()


def test_ctrl_c_stops_it_without_a_frame(built: Path, ending_bundle: Path, prompt: Path, tmp_path: Path) -> None:
    """A full pipe holds it where it would say that its first step is done, until the signal has come: before that it
    would stop within the step."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    filled = 0
    with suppress(BlockingIOError):
        while True:
            filled += os.write(writer, b".")
    os.set_blocking(writer, True)
    command = [built / "make_video", ending_bundle, prompt, tmp_path]
    with subprocess.Popen(command, stderr=writer) as process, os.fdopen(reader, "rb") as stream:
        os.close(writer)
        while not (catches(process.pid, signal.SIGINT) and waits(process.pid)):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        said = stream.read()[filled:].decode()
        assert process.wait(60) == 1
    assert said == "step 1 of 3\ncancelled after step 1 of 3\n"
    assert not list(tmp_path.iterdir())


def waits(pid: int) -> bool:
    """Whether the first thread of a process sleeps, as a full pipe lets it: in a write where the kernel says so."""
    asleep = re.search(r"State:\s*S", Path(f"/proc/{pid}/status").read_text()) is not None
    place = Path(f"/proc/{pid}/wchan").read_text()
    return asleep and (place in ("", "0") or "pipe_w" in place)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for the signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


def test_the_bundle_is_checked(built: Path, ending_bundle: Path) -> None:
    assert run(built / "check_bundle", ending_bundle, 1).endswith(
        "the golden output, bit for bit\nthe golden frames, bit for bit\n"
    )


def test_only_the_shared_program_needs_a_loader(built: Path) -> None:
    for name in ("make_video", "check_bundle"):
        said = headers(built / name)
        if built.name == "static":
            assert "There is no dynamic section in this file" in said and "INTERP" not in said
        else:
            assert "INTERP" in said and "[libtvm_flow.so.0]" in said


def test_an_update_takes_the_bundles_place(built: Path, ending_bundle: Path, tmp_path: Path) -> None:
    """How it fails, and where it is killed: `test_update_example`. A static program has its groups for good."""
    if built.name == "static":
        assert not (built / "install_update").exists()
        return
    for version, name in enumerate(("field", "fetched")):
        shutil.copytree(ending_bundle, tmp_path / name)
        sign_bundle(tmp_path / name, KEY, MODEL, version)
    expected = files_of(tmp_path / "fetched")
    said = run(built / "install_update", tmp_path / "fetched", tmp_path / "field", MODEL, public(KEY))
    assert said == f"installed: {tmp_path / 'field'}, version 1; it gave its golden output here\n"
    assert files_of(tmp_path / "field") == expected and not (tmp_path / "fetched").exists()


def test_mistakes_are_one_line(built: Path, ending_bundle: Path, prompt: Path, tmp_path: Path) -> None:
    for words, message in (
        ([], "usage: make_video BUNDLE PROMPT FOLDER [SEED]"),
        ([tmp_path, prompt, tmp_path], "steps.bin: expected a readable file"),
        ([ending_bundle, ending_bundle / "steps.bin", tmp_path], "steps.bin: expected a prompt, got another file"),
        ([ending_bundle, prompt, tmp_path / "nowhere"], "frame000.ppm: No such file or directory"),
    ):
        done = subprocess.run([built / "make_video", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr.splitlines()[-1], done.stderr


def test_a_bundle_that_ends_in_latents_is_named(built: Path, static_bundle: Path, prompt: Path, tmp_path: Path) -> None:
    if built.name == "static":  # it holds the groups of one build
        return
    done = subprocess.run(
        [built / "make_video", static_bundle, prompt, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "decoder.bin: expected a readable file" in done.stderr


@pytest.mark.parametrize("builder", [with_make, with_cmake])
def test_a_bundle_without_archives_says_how_to_compile_it(builder: Builder, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"got none; compile the bundle with\s+--emit static"):
        builder(tmp_path / "out", tmp_path, "LINK=static")


def test_the_video_program_fits_a_page() -> None:
    assert len((EXAMPLES / "make_video.c").read_text().splitlines()) <= 60


def test_the_runtime_of_cmake_exports_what_pythons_does(built: Path) -> None:
    if built.name == "static":
        return
    (library,) = built.rglob("libtvm_flow.so.0")
    names = [run("nm", "-D", "--defined-only", "-j", path).split() for path in (library, build_runtime())]
    assert set(names[0]) == set(names[1]) and "tvm_flow_open" in names[0]
