"""The text encoder: transformers' own result, the shapes of both versions, and a line for every mistake."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_folders import CHANNELS, PROMPTS

from tvm_flow.errors import CheckpointError, ConfigError, PromptError
from tvm_flow.opensora import load_text_encoder
from tvm_flow.opensora.text_encoder import TOKENS


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


class TestEncode:
    @pytest.mark.parametrize("version", ["v1.0", "v1.2"])
    def test_lengths_of_both_versions(self, t5: Path, version: str) -> None:
        encoder = load_text_encoder(t5, TOKENS[version], CHANNELS)
        tokens, mask = encoder.batch(list(PROMPTS))
        length = {"v1.0": 120, "v1.2": 300}[version]
        assert (tuple(tokens.shape), tuple(mask.shape)) == ((2, length, CHANNELS), (2, length))
        assert (tokens.dtype, mask.dtype) == (torch.float32, torch.bool)
        assert not tokens[~mask].any(), "padding is zero"
        assert tokens[mask].abs().sum(-1).min() > 0

    def test_is_what_transformers_gives_without_padding(self, t5: Path) -> None:
        from transformers import AutoTokenizer, T5EncoderModel

        tokenizer, model = AutoTokenizer.from_pretrained(t5), T5EncoderModel.from_pretrained(t5).eval()
        tokens, lengths = load_text_encoder(t5, 40, CHANNELS).encode(PROMPTS, progress=False)
        for prompt, row, length in zip(PROMPTS, tokens, lengths, strict=True):
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            assert ids[0, -1] == tokenizer.eos_token_id
            assert length == ids.shape[1]
            with torch.no_grad():
                expected = model(input_ids=ids)["last_hidden_state"][0]
            torch.testing.assert_close(row[:length], expected, rtol=1e-4, atol=1e-5)

    def test_a_long_prompt_is_cut(self, t5: Path) -> None:
        tokens, mask = load_text_encoder(t5, 5, CHANNELS).batch([PROMPTS[0]])
        assert mask.all()
        assert tokens.shape == (1, 5, CHANNELS)

    @pytest.mark.parametrize("prompt", ["一只红色的运动鞋向左移动", "😀😀😀", "😀 😀"])
    def test_a_prompt_of_unknown_pieces_is_refused_by_name(self, t5: Path, prompt: str) -> None:
        encoder = load_text_encoder(t5, 30, CHANNELS)
        with pytest.raises(PromptError, match=f"prompt '{prompt}': expected pieces .* got unknown ones only"):
            encoder.batch([PROMPTS[0], prompt])

    def test_what_is_cut_or_unknown_is_said_for_each_prompt(self, t5: Path, caplog: pytest.LogCaptureFixture) -> None:
        encoder = load_text_encoder(t5, 20, CHANNELS)
        whole = len(encoder.tokenizer([PROMPTS[0]])["input_ids"][0])
        encoder.batch([PROMPTS[0], "a 😀 red", "a red"])
        assert [record.message for record in caplog.records] == [
            f"prompt '{PROMPTS[0]}': {whole - 20} of its {whole} tokens were cut, which are beyond the 20 that the "
            "transformer takes",
            "prompt 'a 😀 red': 1 pieces are unknown to the text encoder and say nothing",
        ]

    def test_a_prompt_that_just_fits_is_not_cut(self, t5: Path, caplog: pytest.LogCaptureFixture) -> None:
        whole = len(load_text_encoder(t5, 20, CHANNELS).tokenizer([PROMPTS[0]])["input_ids"][0])
        load_text_encoder(t5, whole, CHANNELS).batch([PROMPTS[0]])
        assert not caplog.records

    def test_what_is_known_only_after_the_cut_does_not_count(self, t5: Path) -> None:
        with pytest.raises(PromptError, match="got unknown ones only"):
            load_text_encoder(t5, 4, CHANNELS).batch(["😀 😀 😀 a red sneaker"])

    def test_half_precision_is_close(self, t5: Path) -> None:
        exact, _ = load_text_encoder(t5, 30, CHANNELS).batch([PROMPTS[0]])
        tokens, _ = load_text_encoder(t5, 30, CHANNELS, "bfloat16").batch([PROMPTS[0]])
        assert tokens.dtype == torch.float32
        assert 0 < (tokens - exact).abs().max() < 0.1 * exact.abs().max()

    @pytest.mark.parametrize("prompts", [[], [" "], ["a", ""]])
    def test_no_text_is_refused(self, t5: Path, prompts: list[str]) -> None:
        with pytest.raises(PromptError, match="expected texts"):
            load_text_encoder(t5, 30, CHANNELS).batch(prompts)


class TestLoad:
    def test_an_absent_folder_is_not_looked_for_on_a_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match=r"expected a local folder with a T5 encoder.*nothing is downloaded"):
            load_text_encoder(Path("DeepFloyd/t5-v1_1-xxl"))

    def test_a_file_is_no_folder(self, t5: Path) -> None:
        with pytest.raises(CheckpointError, match="got a file"):
            load_text_encoder(t5 / "config.json")

    def test_the_xxl_has_4096_channels(self, t5: Path) -> None:
        with pytest.raises(CheckpointError, match="expected model_type t5 with d_model 4096, got t5 with 16"):
            load_text_encoder(t5)

    def test_another_model_is_refused(self, t5: Path, tmp_path: Path) -> None:
        folder = copy(t5, tmp_path / "t5")
        config = json.loads((folder / "config.json").read_text()) | {"model_type": "bert"}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="got bert with 16"):
            load_text_encoder(folder, channels=CHANNELS)

    @pytest.mark.parametrize("name", ["spiece.model", "model.safetensors", "config.json"])
    def test_a_missing_file_is_an_error(self, t5: Path, tmp_path: Path, name: str) -> None:
        folder = copy(t5, tmp_path / "t5")
        (folder / name).unlink()
        with pytest.raises(CheckpointError, match=str(folder)):
            load_text_encoder(folder, channels=CHANNELS)

    def test_a_missing_weight_is_not_made_up(self, t5: Path, tmp_path: Path) -> None:
        folder = copy(t5, tmp_path / "t5")
        state = load_file(folder / "model.safetensors")
        del state["encoder.block.1.layer.0.SelfAttention.q.weight"]
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(CheckpointError, match=r"1 missing and 0 of another shape: encoder.*SelfAttention.q"):
            load_text_encoder(folder, channels=CHANNELS)

    @pytest.mark.parametrize(("length", "dtype"), [(0, "float32"), (300, "float16")])
    def test_impossible_choices(self, t5: Path, length: int, dtype: str) -> None:
        with pytest.raises(ConfigError, match="expected a length of 1 or more and one of"):
            load_text_encoder(t5, length, CHANNELS, dtype)

    def test_without_the_extra_it_says_how_to_install_it(self, t5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ConfigError, match=r"transformers: .*pip install 'tvm-flow\[opensora\]'"):
            load_text_encoder(t5, channels=CHANNELS)
