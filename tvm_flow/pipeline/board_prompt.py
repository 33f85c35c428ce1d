"""embed --for-bundle: one caption to the file that a C program opens beside a bundle (`tvm_flow.pack.prompt_file`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm_flow.artifact import exclusive, expect_file
from tvm_flow.calibrate.run import Embed
from tvm_flow.errors import ConfigError, PromptError
from tvm_flow.opensora import load_embeddings, load_text_encoder
from tvm_flow.pack import Prompt, read_golden
from tvm_flow.pack.prompt_file import MAGIC, encode_prompt, write_prompt
from tvm_flow.pipeline.asked import demo_captions
from tvm_flow.pipeline.generate import prompt_pair
from tvm_flow.room import expect_room


@dataclass(frozen=True)
class CaptionSource:
    """Where a caption becomes tokens: a file of `tvm_flow.opensora.embeddings`, a folder with a text encoder, or by
    default the demo's captions."""

    embeddings: Path | None = None
    text_encoder: Path | None = None
    dtype: str = "float32"

    def load(self, bundle: Path, tokens: int, channels: int) -> Embed:
        """For the model of ``bundle``, of that many tokens and channels; raises ConfigError for two sources, and what
        readers raise."""
        if self.embeddings is not None and self.text_encoder is not None:
            raise ConfigError("embed: expected --captions or --text-encoder, got both; leave one out")
        if self.text_encoder is not None:
            return load_text_encoder(self.text_encoder, tokens, channels, self.dtype).batch
        if self.embeddings is None:
            return demo_captions(bundle, (tokens, channels))
        found = load_embeddings(self.embeddings)
        found.require_shape(tokens, channels)
        return found.batch


def board_prompt(bundle: Path, text: str, source: CaptionSource) -> Prompt:
    """``text`` as the conditional branch of ``bundle`` takes it, the same numbers as `tvm-flow run` gives it.

    Raises BundleError for a bad bundle, PromptError for a caption that ``source`` does not know or of another size.
    """
    golden = read_golden(bundle)
    shape: tuple[int, int] = golden.cond.tokens.shape
    (tokens,), (mask,) = source.load(bundle, *shape)([text])
    if tuple(tokens.shape) != shape:
        raise PromptError(
            f"prompt {text!r:.120}: expected {shape[0]} tokens of {shape[1]} channels for {bundle}, got "
            f"{tuple(tokens.shape)}; give the captions or the text encoder of its model"
        )
    return prompt_pair(tokens.numpy(), int(mask.sum()), golden.uncond.tokens)[0]


def board_prompt_stage(bundle: Path, text: str, source: CaptionSource, output: Path) -> Prompt:
    """Write ``output``; raises ConfigError for another kind of file there, otherwise as `board_prompt`."""
    expect_file(output)
    if output.exists() and not output.read_bytes()[: len(MAGIC)] == MAGIC:
        raise ConfigError(
            f"{output}: expected nothing or a prompt file to replace, got another file; choose another output"
        )
    with exclusive(output):
        prompt = board_prompt(bundle, text, source)
        expect_room(output, len(encode_prompt(prompt)))
        write_prompt(output, prompt)
    return prompt
