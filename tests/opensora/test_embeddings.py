"""The file of prompt embeddings: round trips, other writers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tvm_flow.demo import load_captions
from tvm_flow.demo.assets import WEIGHTS
from tvm_flow.errors import PromptError
from tvm_flow.opensora import load_embeddings, save_embeddings

TOKENS, LENGTHS = torch.arange(24.0).reshape(2, 3, 4) + 1, torch.tensor([3, 1])


def write(path: Path, captions: Any = ("a", "b"), **tensors: torch.Tensor) -> Path:
    save_file({"tokens": TOKENS, "lengths": LENGTHS} | tensors, path, {"captions": json.dumps(captions)})
    return path


class TestRoundTrip:
    @given(
        dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
        lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4),
        text=st.text(min_size=1, max_size=8),
    )
    def test_prompts_tokens_and_masks_come_back(
        self, tmp_path_factory: pytest.TempPathFactory, dtype: torch.dtype, lengths: list[int], text: str
    ) -> None:
        path = tmp_path_factory.mktemp("e") / "e.safetensors"
        prompts = [f"{text}{k}" for k in range(len(lengths))]
        tokens = torch.randn(len(lengths), 5, 3).to(dtype)
        save_embeddings(path, prompts, tokens, torch.tensor(lengths))
        read, mask = load_embeddings(path).batch(prompts[::-1])
        assert read.dtype == torch.float32
        assert mask.sum(1).tolist() == lengths[::-1]
        assert mask.sort(1, descending=True).values.equal(mask), "real tokens first"
        assert read.equal(torch.where(mask[:, :, None], tokens.flip(0).float(), torch.zeros(())))

    def test_a_folder_stands_for_its_file(self, tmp_path: Path) -> None:
        write(tmp_path / "captions.safetensors")
        assert load_embeddings(tmp_path).prompts == ("a", "b")

    def test_the_demos_captions_are_such_a_file(self) -> None:
        found, demo = load_embeddings(WEIGHTS), load_captions()
        prompts = list(demo)[::97]
        assert found.prompts == tuple(demo)
        for ours, theirs in zip(found.batch(prompts), demo.batch(prompts), strict=True):
            assert ours.equal(theirs)


class TestRefusals:
    def test_an_unknown_prompt_names_some_known(self, tmp_path: Path) -> None:
        with pytest.raises(PromptError, match=r"prompt 'c': expected one of the 2 in .*e \('a', 'b'\); encode it too"):
            load_embeddings(write(tmp_path / "e")).batch(["a", "c"])

    def test_another_models_shape(self, tmp_path: Path) -> None:
        found = load_embeddings(write(tmp_path / "e"))
        found.require_shape(3, 4)
        for shape in ((300, 4), (3, 4096)):
            with pytest.raises(PromptError, match=f"expected {shape[0]} tokens of {shape[1]} channels .* got 3 of 4"):
                found.require_shape(*shape)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"captions": ["a"]}, r"float tokens \[1, L, D\]"),
            ({"captions": []}, "a list of prompts"),
            ({"captions": "ab"}, "a list of prompts"),
            ({"captions": [1, 2]}, "a list of prompts"),
            ({"captions": ["a", "a"]}, "prompts that differ, got 1 repeated"),
            ({"tokens": TOKENS[0]}, "float tokens"),
            ({"tokens": TOKENS.long()}, "float tokens"),
            ({"tokens": TOKENS[:, :0]}, "float tokens"),
            ({"tokens": TOKENS / 0}, "finite tokens"),
            ({"lengths": LENGTHS.float()}, "int64 lengths"),
            ({"lengths": LENGTHS[:1].clone()}, "int64 lengths"),
            ({"lengths": torch.tensor([0, 1])}, "lengths from 1 to 3, got 0 to 1"),
            ({"lengths": torch.tensor([4, 1])}, "lengths from 1 to 3, got 1 to 4"),
        ],
    )
    def test_what_contradicts_the_format(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        with pytest.raises(PromptError, match=f"e: expected {message}"):
            load_embeddings(write(tmp_path / "e", **change))

    def test_numbers_of_padding_do_not_matter(self, tmp_path: Path) -> None:
        tokens = TOKENS.clone()
        tokens[1, 1:] = torch.nan
        save_embeddings(tmp_path / "e", ["a", "b"], tokens, LENGTHS)
        assert load_embeddings(tmp_path / "e").tokens.isfinite().all()

    def test_an_absent_or_damaged_file(self, tmp_path: Path) -> None:
        whole = write(tmp_path / "e").read_bytes()
        (tmp_path / "cut").write_bytes(whole[:-1])
        save_file({"tokens": TOKENS, "lengths": LENGTHS}, tmp_path / "nameless")
        save_file({"tokens": TOKENS}, tmp_path / "unmeasured", {"captions": "[]"})
        (tmp_path / "empty").mkdir()
        for name in ("absent", "cut", "nameless", "unmeasured", "empty"):
            with pytest.raises(PromptError, match=f"{name}.*: expected prompt embeddings"):
                load_embeddings(tmp_path / name)

    def test_nothing_wrong_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(PromptError, match="lengths from 1 to 3"):
            save_embeddings(tmp_path / "e", ["a", "b"], TOKENS, LENGTHS - 1)
        assert not list(tmp_path.iterdir())
