"""prompt.bin: one caption for the C runtime, as `tvm_flow_prompt_open` of tvm_flow_prompt.h reads it.

Little endian, nothing between its parts:

    magic "TVMFPRM\\0", u32 schema, u32 header bytes (24), u32 text_tokens, u32 text_channels
    tokens f32 [text_tokens][text_channels], all finite
    mask f32 [text_tokens], added to scores: 0 keeps a token, -1e9 hides it; none above 0, one 0 at least
    sha256 of all before it

It fits every bundle with as many tokens and channels. The null caption is not in it but in each bundle's golden.bin,
and takes the mask of the caption.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np

from tvm_flow.artifact import write_bytes
from tvm_flow.errors import PromptError
from tvm_flow.limits import MAX_ELEMENTS
from tvm_flow.pack.contents import Prompt
from tvm_flow.pack.regular import read_regular

MAGIC, SCHEMA = b"TVMFPRM\0", 1
HEADER = struct.Struct("<8s4I")
_DIGEST = 32
_MOST = HEADER.size + 8 * MAX_ELEMENTS + _DIGEST


def encode_prompt(prompt: Prompt) -> bytes:
    """The bytes of the file; raises PromptError for what its readers would refuse."""
    shape = prompt.tokens.shape
    if len(shape) != 2 or not 0 < prompt.tokens.size <= MAX_ELEMENTS or prompt.mask.shape != shape[:1]:
        raise PromptError(f"prompt: expected tokens [L, D] and a mask [L], got {shape} and {prompt.mask.shape}")
    _check("prompt", prompt)
    header = HEADER.pack(MAGIC, SCHEMA, HEADER.size, *shape)
    body = b"".join([header, prompt.tokens.astype("<f4").tobytes(), prompt.mask.astype("<f4").tobytes()])
    return body + hashlib.sha256(body).digest()


def write_prompt(path: Path, prompt: Prompt) -> None:
    """Write ``prompt`` to ``path``, whole or not at all; raises PromptError as `encode_prompt`."""
    write_bytes(path, encode_prompt(prompt))


def read_prompt(path: Path) -> Prompt:
    """The caption of ``path``; raises PromptError naming what is absent, damaged or contradicts the format."""
    try:
        data = read_regular(path, _MOST)
    except OSError as error:
        raise PromptError(f"{path}: expected a readable prompt file, got: {error}; check the path") from error
    if len(data) < HEADER.size or not data.startswith(MAGIC):
        raise PromptError(
            f"{path}: expected a prompt that begins with {MAGIC!r}, got {data[:8]!r}; write it with tvm-flow embed "
            "--for-bundle"
        )
    _, schema, length, tokens, channels = HEADER.unpack_from(data)
    if (schema, length) != (SCHEMA, HEADER.size):
        raise PromptError(
            f"{path}: expected schema {SCHEMA} and a header of {HEADER.size} bytes, got {schema} and {length}; write "
            "it with this version"
        )
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    size = HEADER.size + 4 * tokens * (channels + 1) + _DIGEST
    if min(tokens, channels) < 1 or len(data) != size or hashlib.sha256(body).digest() != digest:
        raise PromptError(
            f"{path}: expected {size} bytes for {tokens} tokens of {channels} channels, which end in their sha256, got "
            f"{len(data)}; copy it again"
        )
    values = np.frombuffer(body, "<f4", offset=HEADER.size).astype(np.float32)
    prompt = Prompt(values[: tokens * channels].reshape(tokens, channels), values[tokens * channels :])
    _check(str(path), prompt)
    return prompt


def _check(what: str, prompt: Prompt) -> None:
    if not np.isfinite(prompt.tokens).all() or not (prompt.mask <= 0).all() or not (prompt.mask == 0).any():
        raise PromptError(f"{what}: expected finite tokens and a mask of at most 0 that keeps one; encode it again")
