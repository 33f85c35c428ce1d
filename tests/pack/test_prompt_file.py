"""A caption's file comes back bit for bit, in Python and in C; a damaged one is named by both."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import toy_bundle
from support.attack_programs import attack_with

from tvm_flow.errors import BundleError, PromptError
from tvm_flow.pack import Contents, Prompt, read_golden
from tvm_flow.pack.prompt_file import HEADER, encode_prompt, read_prompt, write_prompt
from tvm_flow.run.status import Status

Attack = Callable[..., str]


@pytest.fixture(scope="session")
def open_prompt(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, Path], tuple[Status, str]]:
    """What the C runtime says of (bundle, prompt file): a status, and a message or the sha256 of what it read."""
    folder = tmp_path_factory.mktemp("prompts")

    def run(bundle: Path, prompt: Path) -> tuple[Status, str]:
        number, _, message = attack_with(folder, "try_prompt", bundle, prompt).strip().partition(" ")
        return Status(int(number)), message

    return run


@pytest.fixture
def prompt() -> Prompt:
    tokens = np.random.default_rng(3).standard_normal((toy_bundle.TOKENS, toy_bundle.CHANNELS)).astype(np.float32)
    return Prompt(tokens, np.array([0, 0, -1e9], np.float32))


@pytest.fixture
def file(prompt: Prompt, tmp_path: Path) -> Path:
    write_prompt(tmp_path / "prompt.bin", prompt)
    return tmp_path / "prompt.bin"


def sha256(*prompts: Prompt) -> str:
    return hashlib.sha256(b"".join(p.tokens.tobytes() + p.mask.tobytes() for p in prompts)).hexdigest()


def forge(file: Path, change: Callable[[bytearray], object]) -> None:
    """Change the file and make its digest fit."""
    data = bytearray(file.read_bytes()[:-32])
    change(data)
    file.write_bytes(data + hashlib.sha256(data).digest())


def refused(file: Path, bundle: Path, open_prompt: Any) -> Status:
    """Python refuses it too."""
    with pytest.raises((PromptError, BundleError), match=r"prompt\.bin"):
        read_prompt(file)
    status, message = open_prompt(bundle, file)
    assert status in (Status.OK, Status.INVALID_ARGUMENT) or "prompt.bin" in message
    return Status(status)


def test_python_reads_what_it_wrote(file: Path, prompt: Prompt) -> None:
    read = read_prompt(file)
    assert sha256(read) == sha256(prompt)
    assert read.tokens.shape == prompt.tokens.shape


def test_c_reads_it_with_the_null_caption_under_its_mask(
    file: Path, prompt: Prompt, bundle_dir: Path, open_prompt: Any
) -> None:
    null = Prompt(read_golden(bundle_dir).uncond.tokens, prompt.mask)
    assert open_prompt(bundle_dir, file) == (Status.OK, sha256(prompt, null))


def test_a_name_without_a_folder(
    file: Path, bundle_dir: Path, open_prompt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    assert open_prompt(bundle_dir, Path(file.name))[0] is Status.OK


def test_every_bit_counts(file: Path, bundle_dir: Path, open_prompt: Any) -> None:
    whole = file.read_bytes()
    for at in [*range(HEADER.size), *range(HEADER.size, len(whole), 17)]:
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        file.write_bytes(data)
        assert refused(file, bundle_dir, open_prompt) is not Status.OK, at


@pytest.mark.parametrize("length", [0, 1, 7, HEADER.size - 1, HEADER.size, 60, -1])
def test_cut_files(file: Path, bundle_dir: Path, open_prompt: Any, length: int) -> None:
    file.write_bytes(file.read_bytes()[:length])
    assert refused(file, bundle_dir, open_prompt) is Status.CORRUPT


def test_a_byte_too_many(file: Path, bundle_dir: Path, open_prompt: Any) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    assert refused(file, bundle_dir, open_prompt) is Status.CORRUPT


@pytest.mark.parametrize(
    ("at", "value", "status"),
    [
        (0, 0, Status.CORRUPT),
        (8, 2, Status.WRONG_SCHEMA),
        (12, 0, Status.CORRUPT),
        (12, 2**32 - 1, Status.CORRUPT),
        *((at, value, Status.INVALID_ARGUMENT) for at in (16, 20) for value in (0, 2, 5, 2**28, 2**31, 2**32 - 1)),
    ],
)
def test_forged_headers(file: Path, bundle_dir: Path, open_prompt: Any, at: int, value: int, status: Status) -> None:
    forge(file, lambda data: struct.pack_into("<I", data, at, value))
    assert refused(file, bundle_dir, open_prompt) is status


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_tokens_that_are_not_finite(file: Path, bundle_dir: Path, open_prompt: Any, value: float) -> None:
    forge(file, lambda data: struct.pack_into("<f", data, HEADER.size + 8, value))
    assert refused(file, bundle_dir, open_prompt) is Status.CORRUPT


@pytest.mark.parametrize("mask", [(-1.0, -1.0, -1e9), (0.0, float("nan"), 0.0), (0.0, 1.0, 0.0)])
def test_masks_that_hide_all_or_are_none(
    file: Path, bundle_dir: Path, open_prompt: Any, mask: tuple[float, float, float]
) -> None:
    forge(file, lambda data: struct.pack_into("<3f", data, len(data) - 12, *mask))
    assert refused(file, bundle_dir, open_prompt) is Status.CORRUPT


def test_a_prompt_of_another_model_says_both_sizes(bundle_dir: Path, tmp_path: Path, open_prompt: Any) -> None:
    write_prompt(tmp_path / "p", Prompt(np.ones((5, 2), np.float32), np.zeros(5, np.float32)))
    status, message = open_prompt(bundle_dir, tmp_path / "p")
    assert status is Status.INVALID_ARGUMENT
    assert "expected schema 1, 3 tokens of 4 channels, got schema 1, 5 tokens of 2; use tvm-flow embed" in message


@pytest.mark.parametrize("damage", ["absent", "folder", "fifo"])
def test_what_is_no_file(file: Path, bundle_dir: Path, open_prompt: Any, damage: str) -> None:
    file.unlink()
    if damage != "absent":
        (Path.mkdir if damage == "folder" else os.mkfifo)(file)
    assert refused(file, bundle_dir, open_prompt) is Status.FILE_ERROR


def test_a_bundle_without_its_golden_file_has_no_null_caption(
    file: Path, bundle_dir: Path, tmp_path: Path, open_prompt: Any
) -> None:
    for source in bundle_dir.rglob("*"):
        if source.is_file() and source.name != "golden.bin":
            (tmp_path / "b" / source.relative_to(bundle_dir)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "b" / source.relative_to(bundle_dir)).write_bytes(source.read_bytes())
    status, message = open_prompt(tmp_path / "b", file)
    assert status is Status.FILE_ERROR and "golden.bin: expected a readable file" in message


def test_what_readers_would_refuse_is_not_written(prompt: Prompt, contents: Contents) -> None:
    assert len(encode_prompt(contents.golden.cond)) == HEADER.size + 4 * 3 * 5 + 32
    wrong = [
        Prompt(prompt.tokens * np.float32("nan"), prompt.mask),
        Prompt(prompt.tokens, prompt.mask - 1),
        Prompt(prompt.tokens, prompt.mask[:2]),
        Prompt(prompt.tokens[0], prompt.mask),
    ]
    for each in wrong:
        with pytest.raises(PromptError, match="prompt: expected"):
            encode_prompt(each)


def test_null_pointers_are_refused() -> None:
    from tvm_flow.run.native import load_runtime

    runtime = load_runtime()
    for name in ("tvm_flow_prompt_open", "tvm_flow_null_prompt"):
        call = getattr(runtime, name)
        call.argtypes = (ctypes.c_void_p,) * 4
        assert call(None, None, None, None) == Status.INVALID_ARGUMENT
    runtime.tvm_flow_prompt_close(None)
