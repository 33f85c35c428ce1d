"""The bundle format, schema 3: the one page of it.

A bundle is a directory of regular files, all but two of them listed in the manifest; nothing else may lie in it:

    manifest.json            what it is made of, below
    signature.bin            who signed which version of it, if somebody did; not listed: see tvm_flow.pack.signature
    lib/<target>/<group>.so  one library for each step group, exporting `tvm_flow_library`
    weights.bin              what all steps share, in the layout of safetensors: see below
    steps.bin                the index below, all that the C runtime reads besides libraries and weights
    golden.bin               float32: noise [latent], cond tokens [L, channels], cond mask [L], uncond tokens
                             and mask, expected latents [latent]; what steps draw is made for the seed 0. In an
                             unchecked bundle (golden steps 0xFFFFFFFF) nobody computed these, and they are zero
    decoder.bin              latents to frames, if the bundle ends in frames: see tvm_flow.pack.decoder
    decoder_weights.bin      its constants, in the same layout
    lib/<target>/decoder.so  its library
    lib/<target>/libtvm_flow.so.0, lib/<target>/libtvm_flow_device_*.so, lib/<target>/check_bundle, include/*.h, LICENSE
                             for C programs of the target; see `tvm_flow.compile.board_files`
    calls.json               what each call of each group is, for people; see `tvm_flow.profile.call_names`
    lib/<target>/**.a        only when compiled with --emit static; see `tvm_flow.compile.static`

manifest.json is sorted, indented JSON; the C runtime does not read it:

    schema      that of manifest.json and steps.bin: 3
    version     of tvm-flow, which packed it
    target      what it was compiled for; name is the folder's below lib/, backends those that libraries may need
    sampler     the configuration that t, updates and records were made for, as steps.bin has it too
    provenance  model, its sha256, recipe, versions of the compilers, what was compared and how exact it was
    steps       denoising steps
    groups      names of the step groups, in the order that steps.bin counts them
    files       bytes and sha256 of every other file, by its path
    static      those of files that programs link with: see --emit static
    checked     false when nothing of it ever ran: see --check none
    sha256      of this text without this key

Checked when it is opened in Python (`tvm_flow.pack.verify`), before anything of it runs: manifest.json by its own
sha256; that the files are those listed, of the listed sizes and sha256; steps.bin and decoder.bin by their own, every
count, index and number in them, and that they say what the manifest says; the libraries' architecture. The C runtime
checks steps.bin and decoder.bin likewise, and the sha256 of what it loads of weights and libraries, which these state.
golden.bin is checked when it is read; tvm_flow_verify asks that its input gives its latents, bit for bit.

A reader takes its own schema and the one before, and refuses every other by name: an older bundle is compiled again, a
newer one wants a newer reader. Within a schema, keys of the manifest and files may be added, never changed: readers
ignore keys that they do not know, and static and checked may be absent (none, true).

    3    weights are a safetensors file; steps.bin and decoder.bin say where its values begin (weights first), and how
         long libraries are (library bytes). Both were zeros: a reader of 3 reads 2 by the same code
    2    update constants in double, output_channels; decoders. Weights are bare values
    1    float32 Euler steps in place of updates

weights.bin is read by any reader of safetensors: u64 length of the header, JSON with name, dtype, shape and place of
every tensor, padded with spaces so that values begin at a multiple of 16384, then the values. Tensors are as libraries
take them: what is packed has the type and shape that it is packed in. They begin at multiples of 64; "padding.N" fill
the gaps. The last one, "sha256", is that of all bytes before it: weights that are whole, but another bundle's, are told
from damaged ones. Libraries name offsets from where values begin. The runtime reads nothing of the header.

steps.bin is little endian. Its sections follow each other, each padded with zeros to 64 bytes, so that
positions follow from the counts and none can lie. The last 32 bytes are the sha256 of all before.

    header    magic "TVMFLOW\\0", u32 schema, u32 header bytes (192), u64 file bytes, u32 steps, branches,
              groups, step_floats, guided_channels, output_channels, latent_ndim, text_tokens,
              text_channels, sampler_bytes, u32 latent_shape[8] (1 past latent_ndim), u64 variant_values,
              u64 weights bytes, weights sha256, golden sha256, f64 cfg_scale, u32 weights first, u32 golden
              steps (0 for all, 0xFFFFFFFF for none)
    sampler   JSON text [sampler_bytes]: the configuration that t, updates and records were made for
    groups    [groups] of: sha256 of the library, u32 variant_floats, u32 library bytes, path in the bundle [152]
    t         f32 [steps], 0..1000
    updates   f64 [steps][5]: of_z, of_prediction, sigma, log_sigma, log_sigma_of_variance; see
              tvm_flow.sampler.update
    records   f32 [steps][step_floats]
    variants  [steps][branches] of: u32 group, u32 zero, u64 index of its first float in values
    values    f32 [variant_values], one run of variant_floats for each variant
    digest    sha256
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from tvm_flow.artifact import SIGNATURE as SIGNATURE
from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack.contents import Contents

SCHEMA, OLDEST = 3, 2
"""What is written, and the oldest that is read."""
MAGIC = b"TVMFLOW\0"
MANIFEST, STEPS, WEIGHTS, GOLDEN = "manifest.json", "steps.bin", "weights.bin", "golden.bin"

HEADER = struct.Struct("<8sIIQ10I8IQQ32s32sdII")
GROUP = struct.Struct("<32sII152s")
VARIANT = struct.Struct("<I4xQ")
STATED_BYTES, STATED_BYTES_AT = struct.Struct("<Q"), 16
"""Of the file, in its header."""
_ALIGN = 64
_DIGEST = 32


def is_safe_path(path: str) -> bool:
    """True for a relative path of plain components: nothing that leaves the bundle."""
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") for part in parts)
    return plain and "\\" not in path and "\0" not in path and not PurePosixPath(path).is_absolute()


def require_schema(path: Path, schema: object, newest: int = SCHEMA, oldest: int = OLDEST) -> None:
    """Raises BundleError for another schema than those that this version reads."""
    if type(schema) is int and oldest <= schema <= newest:
        return
    older = type(schema) is int and schema < oldest
    raise BundleError(
        f"{path}: expected schema {oldest} or {newest}, got {schema!r}; "
        f"{'compile the bundle again' if older else 'take a newer version of tvm-flow'}",
        Cause.WRONG_VERSION,
    )


@dataclass(frozen=True)
class Library:
    """One row of the group table: path, sha256 and bytes (0: not stated) of the file, floats in each variant."""

    path: str
    sha256: bytes
    variant_floats: int
    bytes: int = 0


def encode_index(
    contents: Contents, libraries: Sequence[Library], weights_sha256: bytes, golden_sha256: bytes
) -> bytes:
    """The bytes of steps.bin. Raises BundleError when a library's path does not fit its field."""
    sampler = json.dumps(contents.sampler, sort_keys=True).encode()
    variants, values = _encode_variants(contents)
    sections = [
        sampler,
        b"".join(_encode_group(library) for library in libraries),
        np.asarray(contents.timesteps, "<f4").tobytes(),
        contents.updates.astype("<f8").tobytes(),
        contents.step_records.astype("<f4").tobytes(),
        variants,
        values,
    ]
    body = b"".join(section + b"\0" * (-len(section) % _ALIGN) for section in sections)
    shape = contents.latent_shape + (1,) * (8 - len(contents.latent_shape))
    header = HEADER.pack(
        *(MAGIC, SCHEMA, HEADER.size, HEADER.size + len(body) + _DIGEST),
        *(contents.steps, contents.branches, len(libraries), contents.step_records.shape[1]),
        *(contents.guided_channels, contents.output_channels, len(contents.latent_shape)),
        *(contents.text_tokens, contents.text_channels, len(sampler), *shape),
        *(len(values) // 4, contents.weights_bytes, weights_sha256, golden_sha256, contents.cfg_scale),
        *(contents.weights_first, contents.golden.steps),
    )
    return header + body + hashlib.sha256(header + body).digest()


def _encode_group(library: Library) -> bytes:
    path = library.path.encode()
    if len(path) > 151:
        raise BundleError(
            f"{library.path}: expected a path of at most 151 bytes, got {len(path)}; shorten the group's name"
        )
    return GROUP.pack(library.sha256, library.variant_floats, library.bytes, path)


def _encode_variants(contents: Contents) -> tuple[bytes, bytes]:
    """Rows of (group, first value), and the values; variants with equal ones share them."""
    rows, firsts, count = [], dict[bytes, int](), 0
    for branches in contents.variants:
        for variant in branches:
            raw = variant.values.astype("<f4").tobytes()
            if raw not in firsts:
                firsts[raw] = count
                count += variant.values.size
            rows.append(VARIANT.pack(variant.group, firsts[raw]))
    return b"".join(rows), b"".join(firsts)


def encode_golden(contents: Contents) -> bytes:
    """The bytes of golden.bin."""
    golden = contents.golden
    arrays = [golden.noise]
    for prompt in (golden.cond, golden.uncond):
        arrays += [prompt.tokens, prompt.mask]
    return b"".join(array.astype("<f4").tobytes() for array in [*arrays, golden.latents])
