"""The toy decoder of c/toy_decoder.c, as part of the toy bundle, and the same arithmetic in numpy."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from support import toy_bundle
from tvm_flow.pack import Contents, Decoder, write_bundle

WEIGHTS = np.array([0.5, -0.25, 2.0], "<f4")


def compile_decoder(output: Path, chunk: int = 1, **macros: int) -> Path:
    """``macros`` are the TOY_ names of toy_decoder.c in lower case, without the prefix."""
    defines = [f"-DTOY_{name.upper()}={value}" for name, value in {"chunk": chunk, **macros}.items()]
    shared = ["-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    return toy_bundle.compile_c(output, [toy_bundle.SOURCES / "toy_decoder.c"], *shared, *defines)


def decode(latents: toy_bundle.Float32) -> toy_bundle.Float32:
    """[4, T, 2, 2] -> float32 [2 T, 2, 2, 3]."""
    even = np.moveaxis(latents[:3], 0, -1) * WEIGHTS
    pairs = np.stack([even, even + latents[3][..., None]], axis=1)
    return np.ascontiguousarray(pairs.reshape(-1, *pairs.shape[2:]), np.float32)


def with_decoder(contents: Contents, library: Path, chunk: int = 1) -> Contents:
    """``contents`` ending in frames."""
    digest = hashlib.sha256(decode(contents.golden.latents).tobytes()).digest()
    return replace(contents, decoder=Decoder(library, WEIGHTS.tobytes(), chunk, (2 * chunk, 2, 2, 3), digest))


def write_decoding(bundle: Path, contents: Contents) -> Path:
    """The toy ``bundle`` with a decoder of one latent frame at a time, whose library is compiled beside it."""
    write_bundle(bundle, with_decoder(contents, compile_decoder(bundle.with_name("toy.so"))))
    return bundle
