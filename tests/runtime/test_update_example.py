"""examples/install_update.c: an update is refused or whole; killed anywhere, it leaves the old or the new one."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import toy_bundle, toy_decoder
from support.attack_programs import SIGNATURE_HEADERS
from support.signed_bundles import KEY, MODEL, OTHER_KEY, VERSION, files_of, public, signed_later, signed_toy

from tvm_flow.pack import Contents, write_bundle
from tvm_flow.pack.format import SIGNATURE
from tvm_flow.pack.signature import sign_bundle
from tvm_flow.toolchain.runtime_library import RUNTIME, runtime_sources, signature_sources

SOURCE = RUNTIME / "examples" / "install_update.c"
WRAPPED = ("rename", "remove", "fsync", "syscall")
FAR = 1000
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [SOURCE, toy_bundle.SOURCES / "kill_points.c", *runtime_sources(), *signature_sources()]
    flags = ["-O1", "-Wall", "-Werror", SIGNATURE_HEADERS, *(f"-Wl,--wrap={name}" for name in WRAPPED)]
    return toy_bundle.compile_c(tmp_path_factory.mktemp("update") / "install_update", sources, *flags)


@pytest.fixture(scope="module")
def old(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 3; shared."""
    return signed_toy(tmp_path_factory.mktemp("old") / "b", contents)


@pytest.fixture(scope="module")
def new(contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 4; shared."""
    return signed_later(tmp_path_factory.mktemp("new") / "b", contents)


@pytest.fixture
def into(old: Path, tmp_path: Path) -> Path:
    """A copy of the old one, alone in its folder."""
    shutil.copytree(old, tmp_path / "field" / "model.bundle")
    return tmp_path / "field" / "model.bundle"


@pytest.fixture
def fetched(new: Path, tmp_path: Path) -> Path:
    """A copy of the new one."""
    shutil.copytree(new, tmp_path / "fetched")
    return tmp_path / "fetched"


@pytest.fixture(params=["exchange", "two renames"])
def renaming(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without a file system that exchanges names."""
    if request.param == "two renames":
        monkeypatch.setenv("TWO_RENAMES", "1")
    return str(request.param)


def update(program: Path, fetched: Path, into: Path | str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [program, fetched, into, MODEL, public(KEY)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | variables, timeout=60)


def alone(into: Path) -> bool:
    return [path.name for path in into.parent.iterdir()] == [into.name]


@pytest.mark.usefixtures("renaming")
def test_the_new_one_takes_the_old_ones_place(program: Path, fetched: Path, into: Path, new: Path) -> None:
    done = update(program, fetched, f"{into}//")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"installed: {into}, version {VERSION + 1}; it gave its golden output here\n"
    assert files_of(into) == files_of(new) and alone(into) and not fetched.exists()


@pytest.mark.usefixtures("renaming")
def test_the_first_one_takes_an_empty_place(program: Path, fetched: Path, into: Path, new: Path) -> None:
    shutil.rmtree(into)
    assert update(program, fetched, into).returncode == 0
    assert files_of(into) == files_of(new) and alone(into) and not fetched.exists()


def test_a_name_without_a_folder_is_one_of_this_folder(
    program: Path, fetched: Path, into: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(into.parent)
    assert update(program, fetched, into.name, TWO_RENAMES="1").returncode == 0
    assert files_of(into) == files_of(new) and alone(into)


def test_what_another_key_signed_there_is_replaced(program: Path, fetched: Path, into: Path, new: Path) -> None:
    """A new owner's key: the old one's word on versions is not asked for."""
    sign_bundle(into, OTHER_KEY, MODEL, VERSION + 9)
    assert update(program, fetched, into).returncode == 0
    assert files_of(into) == files_of(new)


def flip(name: str) -> Change:
    def damage(bundle: Path) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(data)

    return damage


def sign(key: object = KEY, model: str = MODEL, version: int = VERSION) -> Change:
    return lambda bundle: sign_bundle(bundle, key, model, version)  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Change, str]] = {
    "older": (sign(version=VERSION - 1), "expected version 3 or later, got 2"),
    "of another model": (sign(model="shoes"), "expected the model sneakers, got one signed as shoes"),
    "by another key": (sign(OTHER_KEY), "expected one of 1 trusted keys"),
    "by nobody": (lambda bundle: (bundle / SIGNATURE).unlink(), "expected a signature, got none"),
    "with other weights": (flip("weights.bin"), "weights.bin: expected sha256"),
    "with another library": (flip("lib/toy/group1.so"), "group1.so: expected sha256"),
    "with other golden outputs": (flip("golden.bin"), "golden.bin: expected sha256"),
    "with another decoder": (flip("decoder.bin"), "decoder.bin: "),
    "without its decoder": (lambda bundle: (bundle / "decoder.bin").unlink(), "decoder.bin: expected a readable file"),
    "that is gone": (shutil.rmtree, "expected a folder with a bundle"),
}


@pytest.mark.parametrize("which", REFUSED)
def test_one_that_is_refused_leaves_the_old_one(
    program: Path, fetched: Path, into: Path, old: Path, which: str
) -> None:
    change, message = REFUSED[which]
    change(fetched)
    done = update(program, fetched, into)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert message in done.stderr
    assert files_of(into) == files_of(old) and alone(into)


def test_one_that_computes_something_else_here_leaves_the_old_one(
    program: Path, contents: Contents, into: Path, old: Path, tmp_path: Path
) -> None:
    golden = replace(contents.golden, latents=contents.golden.latents + np.float32(1))
    signed_toy(tmp_path / "other", replace(contents, golden=golden), VERSION + 1)
    assert "differ" in update(program, tmp_path / "other", into).stderr
    assert files_of(into) == files_of(old) and alone(into)


def test_a_decoder_that_computes_something_else_here_leaves_the_old_one(
    program: Path, contents: Contents, into: Path, old: Path, tmp_path: Path
) -> None:
    decoding = toy_decoder.with_decoder(contents, toy_decoder.compile_decoder(tmp_path / "decoder.so"))
    assert decoding.decoder is not None
    decoder = replace(decoding.decoder, golden_sha256=bytes([1]) * 32)
    write_bundle(tmp_path / "other", replace(decoding, decoder=decoder))
    sign_bundle(tmp_path / "other", KEY, MODEL, VERSION + 1)
    assert "decoder.bin" in update(program, tmp_path / "other", into).stderr
    assert files_of(into) == files_of(old) and alone(into)


def test_what_is_no_bundle_is_not_replaced(program: Path, fetched: Path, into: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"1")
    (tmp_path / "link").symlink_to(into)
    for place in (tmp_path / "photos", tmp_path / "link", tmp_path / "photos" / "one.jpg"):
        done = update(program, fetched, place)
        assert done.returncode == 1 and "expected a folder with a bundle, or nothing" in done.stderr
    assert (tmp_path / "photos" / "one.jpg").exists() and (tmp_path / "link").is_symlink() and fetched.exists()


@pytest.mark.parametrize("there", ["folder", "nothing"])
def test_what_another_put_beside_no_bundle_is_left(program: Path, fetched: Path, tmp_path: Path, there: str) -> None:
    """A mistyped INTO: .photos.old is nothing that an update left."""
    (tmp_path / ".photos.old").mkdir()
    (tmp_path / ".photos.old" / "one.jpg").write_bytes(b"1")
    if there == "folder":
        (tmp_path / "photos").mkdir()
    done = update(program, fetched, tmp_path / "photos")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (tmp_path / ".photos.old" / "one.jpg").exists() and fetched.exists()


def test_a_bundle_does_not_take_its_own_place(program: Path, into: Path, old: Path) -> None:
    done = update(program, into, into)
    assert done.returncode == 1 and "expected another place than NEW" in done.stderr
    assert files_of(into) == files_of(old)


def test_one_update_at_a_time(program: Path, fetched: Path, into: Path, old: Path) -> None:
    folder = os.open(into.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    done = update(program, fetched, into)
    os.close(folder)
    assert done.returncode == 1 and "another update of this folder is running" in done.stderr
    assert files_of(into) == files_of(old)


@pytest.mark.parametrize("words", [[], ["a", "b", "m"], ["a", "b", "m", "12"], ["a", "b", "m", "x" * 64]])
def test_wrong_words_are_one_line(program: Path, words: list[str]) -> None:
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == (1 if len(words) == 4 else 2) and done.stderr.count("\n") == 1


def test_killed_before_any_change_the_old_or_the_new_one_is_whole(
    program: Path, old: Path, new: Path, into: Path, fetched: Path, renaming: str
) -> None:
    ends, found = {"old": files_of(old), "new": files_of(new)}, []
    for change in range(1, FAR):
        done = update(program, fetched, into, DIE_BEFORE=str(change))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if renaming == "exchange":
            assert files_of(into) in ends.values(), f"change {change}"
        update(program, into.parent / "absent", into)  # the beginning of the next run
        assert alone(into), f"change {change}"
        found.append(next(name for name, files in ends.items() if files == files_of(into)))
        shutil.rmtree(fetched, ignore_errors=True)
        shutil.rmtree(into)
        shutil.copytree(new, fetched)
        shutil.copytree(old, into)
    assert files_of(into) == ends["new"] and alone(into) and not fetched.exists()
    assert found == sorted(found, reverse=True), "after the exchange it never is the old one again"
    assert set(found) == {"old", "new"} and len(found) > 20


def test_it_is_short() -> None:
    assert len(SOURCE.read_text().splitlines()) < 200
