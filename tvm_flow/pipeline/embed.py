"""The embed command: prompts to a file of embeddings, by a text encoder in a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import exclusive, is_current, make_stamp, write_stamp
from tvm_flow.calibrate.header import expect_own
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.errors import PromptError
from tvm_flow.opensora import load_text_encoder, save_embeddings
from tvm_flow.room import expect_room


def prompt_texts(given: Sequence[str], prompts: Path | None) -> list[str]:
    """The prompts ``given`` and those of the prompt set ``prompts``, each once; raises PromptError for none."""
    texts = [*given, *(prompt.text for prompt in (load_prompts(prompts) if prompts else ()))]
    if not texts:
        raise PromptError("embed: expected prompts or --prompts, got none; name at least one")
    return list(dict.fromkeys(texts))


def embed_stage(
    text_encoder: Path, prompts: Sequence[str], output: Path, tokens: int, channels: int, dtype: str = "float32"
) -> None:
    """Embeddings of ``prompts`` into ``output``; nothing is done when they are current.

    Raises what `load_text_encoder` raises, and PromptError for a prompt without text.
    """
    expect_own(output, "prompt embeddings", "captions")
    options = {"prompts": list(prompts), "tokens": tokens, "channels": channels, "dtype": dtype}
    with exclusive(output):
        stamp = make_stamp(folder_files(text_encoder), options, __name__)
        if is_current(output, stamp):
            return
        expect_room(output, 4 * len(prompts) * tokens * channels)
        encoder = load_text_encoder(text_encoder, tokens, channels, dtype)
        save_embeddings(output, prompts, *encoder.encode(prompts))
        write_stamp(output, stamp)


def folder_files(folder: Path) -> dict[str, Path]:
    """The files of ``folder`` by name, for a stamp; none when it is no folder."""
    return {path.name: path for path in sorted(folder.glob("*")) if path.is_file()}
