"""Files that nobody has verified yet: one that is no regular file, or far too long, is an error before it is read."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support import toy_decoder
from support.manifests import change_manifest

from tvm_flow.errors import BundleError
from tvm_flow.pack import Contents, read_decoder, read_golden, read_manifest, verify_bundle
from tvm_flow.pack.index import read_index

READERS: dict[str, Callable[[Path], object]] = {
    "manifest.json": read_manifest,
    "golden.bin": read_golden,
    "steps.bin": read_golden,
    "decoder.bin": read_decoder,
}
VERY_LONG = 10 << 30


@pytest.fixture
def victim(contents: Contents, tmp_path: Path) -> Path:
    toy_decoder.write_decoding(tmp_path / "b", contents)
    return tmp_path / "b"


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """What ``read`` says of ``path``; a reader that waits for a FIFO fails after ten seconds."""
    said: list[str] = []

    def attempt() -> None:
        with pytest.raises(BundleError) as caught:
            read(path)
        said.append(str(caught.value))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert said, "it waits, or it raised something else"
    return said[0]


def index_of(bundle: Path) -> object:
    return read_index(bundle / "steps.bin")


@pytest.mark.parametrize("name", READERS)
def test_a_fifo_is_not_waited_for(victim: Path, name: str) -> None:
    (victim / name).unlink()
    os.mkfifo(victim / name)
    assert f"{name}: expected a regular file" in refusal(READERS[name], victim)
    assert "regular file" in refusal(verify_bundle, victim)


def test_an_index_that_is_a_fifo_is_not_waited_for(victim: Path) -> None:
    (victim / "steps.bin").unlink()
    os.mkfifo(victim / "steps.bin")
    assert "expected a regular file" in refusal(index_of, victim)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_is_no_file(victim: Path, name: str) -> None:
    (victim / name).unlink()
    (victim / name).mkdir()
    assert name in refusal(READERS[name], victim)


@pytest.mark.parametrize("name", [*READERS, "weights.bin", "decoder_weights.bin"])
def test_a_sparse_file_of_ten_gigabytes_is_refused_by_its_size(victim: Path, name: str) -> None:
    os.truncate(victim / name, VERY_LONG)
    if name in READERS and name != "steps.bin":
        assert str(VERY_LONG) in refusal(READERS[name], victim)
    message = refusal(verify_bundle, victim)
    assert name in message and str(VERY_LONG) in message


def test_a_long_index_is_refused_by_its_size(victim: Path) -> None:
    os.truncate(victim / "steps.bin", VERY_LONG)
    assert f"at most 2147483648 bytes, got {VERY_LONG}" in refusal(index_of, victim)


def test_every_size_is_compared_before_any_file_is_hashed(victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_flow.pack.verify.sha256_file", lambda path: pytest.fail(f"{path} was hashed"))
    with (victim / "lib/toy/group1.so").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(BundleError, match=r"group1[.]so: expected \d+ bytes, got \d+; copy the bundle again"):
        verify_bundle(victim)


def test_a_golden_pair_that_the_manifest_does_not_list_so_is_refused(victim: Path) -> None:
    """steps.bin and golden.bin may agree on a size that is not this bundle's."""
    size = (victim / "golden.bin").stat().st_size
    change_manifest(victim, lambda values: values["files"]["golden.bin"].update(bytes=size + 4))
    with pytest.raises(BundleError, match=rf"golden[.]bin: expected {size + 4} bytes, got {size}; copy the bundle"):
        read_golden(victim)


def test_a_golden_pair_without_a_manifest_is_no_bundle(bundle_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle_dir, tmp_path / "c")
    (tmp_path / "c/manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest[.]json: expected a readable JSON file"):
        read_golden(tmp_path / "c")
