"""T5-v1.1-XXL as Open-Sora uses it: the encoder's last hidden states of a prompt, padded to a fixed length.

1. tokenize, with the end token, padded and truncated to 120 tokens (v1.0) or 300 (v1.2);
2. run the encoder under the padding's mask;
3. keep the last hidden state, zero after the prompt's own tokens.

Prompts go to the tokenizer as they are. Upstream's inference lower-cases and strips them of links, marks and the like
first ("text preprocessing"); who wants its exact wording cleans the prompts beforehand.

The folder is transformers' own layout: config.json, model.safetensors or pytorch_model.bin (whole or in shards), and
spiece.model or tokenizer.json with tokenizer_config.json.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from tvm_flow.errors import CheckpointError, ConfigError, PromptError
from tvm_flow.opensora.extra import folder_config, require, require_complete, require_vocabulary

CHANNELS = 4096
TOKENS = {"v1.0": 120, "v1.2": 300}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What the encoder may compute in: the XXL takes 19 GB of weights in float32, half of it in bfloat16."""
VOCABULARIES = ("spiece.model", "tokenizer.json")
log = logging.getLogger(__name__)
_WHAT = "a T5 encoder (T5-v1.1-XXL for Open-Sora)"


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A tokenizer and an encoder of transformers; prompts become ``max_length`` tokens of ``channels``."""

    tokenizer: Any
    model: Any
    max_length: int
    channels: int

    def batch(self, prompts: list[str]) -> tuple[Tensor, Tensor]:
        """(tokens float32 [B, max_length, channels], mask bool [B, max_length]); raises PromptError for no text."""
        tokens, lengths = self.encode(prompts, progress=False)
        return tokens, torch.arange(self.max_length) < lengths[:, None]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], progress: bool = True) -> tuple[Tensor, Tensor]:
        """(tokens float32 [N, max_length, channels], lengths int64 [N]), one prompt at a time to bound memory.

        A prompt that is cut, or has pieces that the vocabulary lacks, is a warning. Raises PromptError for no prompt,
        one without text, and one of which the vocabulary knows nothing: before any is encoded.
        """
        if not prompts or not all(prompt.strip() for prompt in prompts):
            raise PromptError(f"prompts: expected texts, got {list(prompts)!r:.200}; give at least one word each")
        for prompt in prompts:
            self._require_known(prompt)
        rows = [self._one(text) for text in tqdm(prompts, desc="encode", unit="prompt", disable=not progress)]
        return torch.stack([row for row, _ in rows]), torch.tensor([length for _, length in rows])

    def _require_known(self, prompt: str) -> None:
        ids = self.tokenizer([prompt], verbose=False)["input_ids"][0]
        kept = ids[:-1][: self.max_length - 1]  # the end token is always among what is encoded
        if not self.tokenizer.decode(kept, skip_special_tokens=True).strip():
            raise PromptError(
                f"prompt {prompt!r:.120}: expected pieces that the text encoder's vocabulary holds, got unknown ones "
                "only; write it in a language that the encoder was trained on"
            )
        if len(ids) > self.max_length:
            log.warning(
                "prompt %.60r: %d of its %d tokens were cut, which are beyond the %d that the transformer takes",
                *(prompt, len(ids) - self.max_length, len(ids), self.max_length),
            )
        if unknown := kept.count(self.tokenizer.unk_token_id):
            log.warning("prompt %.60r: %d pieces are unknown to the text encoder and say nothing", prompt, unknown)

    def _one(self, prompt: str) -> tuple[Tensor, int]:
        ids = self.tokenizer(
            [prompt], max_length=self.max_length, padding="max_length", truncation=True, return_tensors="pt"
        )
        mask = ids["attention_mask"]
        states = self.model(input_ids=ids["input_ids"], attention_mask=mask)["last_hidden_state"][0].float()
        return states * mask[0, :, None], int(mask.sum())


def load_text_encoder(
    folder: Path, max_length: int = TOKENS["v1.2"], channels: int = CHANNELS, dtype: str = "float32"
) -> TextEncoder:
    """Load the encoder and tokenizer in ``folder``; nothing is fetched.

    Raises ConfigError when the extra ``opensora`` is not installed, the length is not positive or the dtype unknown;
    CheckpointError when the folder is absent, holds another model or lacks weights, or its model has another number
    of channels.
    """
    if max_length < 1 or dtype not in DTYPES:
        raise ConfigError(
            f"text encoder: expected a length of 1 or more and one of {list(DTYPES)}, got {max_length}, {dtype}; "
            "change it"
        )
    config = folder_config(folder, _WHAT)
    if config.get("model_type") != "t5" or config.get("d_model") != channels:
        raise CheckpointError(
            f"{folder / 'config.json'}: expected model_type t5 with d_model {channels}, got {config.get('model_type')} "
            f"with {config.get('d_model')}; give the folder of the encoder that the transformer was trained with"
        )
    require_vocabulary(folder, VOCABULARIES)
    transformers = require("transformers")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, found = transformers.T5EncoderModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=DTYPES[dtype]
        )
    except Exception as error:
        raise CheckpointError(
            f"{folder}: expected {_WHAT} with weights and tokenizer, got: {error}; fetch it again"
        ) from error
    require_complete(folder, found)
    return TextEncoder(tokenizer, model.eval().requires_grad_(False), max_length, channels)
