"""The decoder of a bundle: three optional files beside the others, all of them listed in the manifest.

lib/<target>/decoder.so  the library, exporting `tvm_flow_library` with one input
decoder_weights.bin      its constants, laid out as weights.bin
decoder.bin              what the C runtime reads besides them, little endian:

    magic "TVMFDEC\\0", u32 schema, u32 header bytes (320), u32 latent_shape[4] (C, T, h, w), u32 chunk (latent
    frames that are decoded at a time; it divides T), u32 frame_shape[4] (F, H, W, 3 of a chunk), u32 weights
    first, u64 weights bytes, weights sha256, sha256 of the float32 frames that the golden latents give (zeros:
    unchecked), the library as a row of steps.bin's groups, and last the sha256 of all before
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack.format import GROUP, Library, require_schema
from tvm_flow.pack.frames import Decoder
from tvm_flow.pack.regular import cause_of_size, read_regular, unreadable

DECODER, DECODER_WEIGHTS = "decoder.bin", "decoder_weights.bin"
LIBRARY = "decoder"
"""Name of its library, beside the groups'."""
MAGIC = b"TVMFDEC\0"
SCHEMA, OLDEST = 2, 1
"""1 had zeros for weights first and library bytes."""
HEADER = struct.Struct("<8sII4II4IIQ32s32s")
_BYTES = HEADER.size + GROUP.size
_DIGEST = 32
NO_FRAMES = bytes(_DIGEST)
"""In place of the sha256 of golden frames in an unchecked bundle."""


@dataclass(frozen=True)
class DecoderIndex:
    """What decoder.bin says."""

    latent_shape: tuple[int, ...]
    chunk: int
    frame_shape: tuple[int, ...]
    weights_bytes: int
    weights_sha256: bytes
    weights_first: int
    golden_sha256: bytes
    library: Library

    @property
    def video_shape(self) -> tuple[int, int, int, int]:
        """[frames, height, width, 3] of the whole video."""
        frames, height, width, colours = self.frame_shape
        return self.latent_shape[1] // self.chunk * frames, height, width, colours


def encode_decoder(decoder: Decoder, latent_shape: tuple[int, ...], library: Library, weights_sha256: bytes) -> bytes:
    """The bytes of decoder.bin; raises BundleError when the library's path does not fit its field."""
    path = library.path.encode()
    if len(path) > 151:
        raise BundleError(f"{library.path}: expected at most 151 bytes, got {len(path)}; shorten the target's name")
    header = HEADER.pack(
        *(MAGIC, SCHEMA, _BYTES, *latent_shape, decoder.chunk, *decoder.frame_shape),
        *(decoder.weights_first, memoryview(decoder.weights).nbytes, weights_sha256, decoder.golden_sha256),
    )
    body = header + GROUP.pack(library.sha256, 0, library.bytes, path)
    return body + hashlib.sha256(body).digest()


def read_decoder(directory: Path) -> DecoderIndex | None:
    """decoder.bin of a bundle, checked; None when it has none. Raises BundleError for a damaged or unreadable one."""
    path = directory / DECODER
    try:
        data = read_regular(path, _BYTES + _DIGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    body, digest = data[:_BYTES], data[_BYTES:]
    if len(data) != _BYTES + _DIGEST or hashlib.sha256(body).digest() != digest:
        raise BundleError(
            f"{path}: expected {_BYTES + _DIGEST} bytes that end in their sha256; copy the bundle again",
            cause_of_size(_BYTES + _DIGEST, len(data)),
        )
    magic, schema, length, *numbers = HEADER.unpack_from(body)
    if magic == MAGIC:
        require_schema(path, schema, SCHEMA, OLDEST)
    if (magic, length) != (MAGIC, _BYTES):
        raise BundleError(
            f"{path}: expected magic and size {MAGIC!r}, {_BYTES}, got {magic!r}, {length}; pack with this version of "
            "tvm-flow",
            Cause.WRONG_STEP_TABLE,
        )
    sha256, floats, library_bytes, name = GROUP.unpack_from(body, HEADER.size)
    latent, chunk, frames = tuple(numbers[:4]), numbers[4], tuple(numbers[5:9])
    library = Library(name.rstrip(b"\0").decode(errors="replace"), sha256, floats, library_bytes)
    first, size, weights_sha256, golden_sha256 = numbers[9:13]
    if min(*latent, chunk, *frames) < 1 or latent[1] % chunk or frames[3] != 3 or floats or first > size or first % 64:
        raise BundleError(
            f"{path}: expected positive sizes, chunks that divide {latent[1]} latent frames, 3 colours and no variant, "
            f"got latents {latent}, chunk {chunk}, frames {frames} and {floats} floats; pack the bundle again",
            Cause.WRONG_STEP_TABLE,
        )
    return DecoderIndex(latent, chunk, frames, size, weights_sha256, first, golden_sha256, library)
