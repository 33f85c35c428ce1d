"""Verifying a bundle before a byte of it runs.

In this order: the manifest's schema and paths, no file missing or unlisted, every size and sha256, the index
with its counts and numbers, and the libraries' ELF headers.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

from tvm_flow.artifact import sha256_file
from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack.contents import NOT_COMPUTED
from tvm_flow.pack.decoder import DECODER, DECODER_WEIGHTS, read_decoder
from tvm_flow.pack.format import GOLDEN, MANIFEST, SIGNATURE, STEPS, WEIGHTS, Library, is_safe_path
from tvm_flow.pack.index import Index, read_index
from tvm_flow.pack.manifest import FileEntry, Manifest, check_size, read_manifest

_WEIGHTS = (WEIGHTS, DECODER_WEIGHTS)
_CHUNK, _DIGEST = 1 << 24, 32
# From elf.h, by the names that platform.machine() uses.
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183, "armv7l": 40, "riscv64": 243}


def verify_bundle(directory: Path, machine: str | None = None) -> Manifest:
    """Check every file of a bundle, and with ``machine`` the libraries' architecture too.

    ``machine`` is a name of platform.machine(), such as "aarch64".

    Raises BundleError saying which file or number, what was expected, what was found, and what to do next, with the
    cause that the C runtime names.
    """
    manifest = read_manifest(directory)
    _check_listing(directory, manifest)
    for name, entry in manifest.files.items():
        if name in _WEIGHTS:
            _refuse_foreign(directory / name, entry)
        check_size(directory / name, entry)
    for name, entry in manifest.files.items():
        _check_digest(directory / name, entry)
    index = read_index(directory / STEPS)
    _check_agreement(directory, manifest, index)
    decoder = _check_decoder(directory, manifest, index)
    for library in (*index.libraries, *decoder):
        _check_elf(directory / library.path, machine)
    return manifest


def bundle_bytes(directory: Path) -> int:
    """Bytes of all files of a bundle, manifest included, without verifying them."""
    return sum((directory / name).stat().st_size for name in [MANIFEST, *read_manifest(directory).files])


def _check_listing(directory: Path, manifest: Manifest) -> None:
    found = set()
    for root, folders, files in os.walk(directory):
        for name in [*folders, *files]:
            path = Path(root, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise BundleError(
                    f"{path}: expected a regular file; copy the bundle with its links followed",
                    Cause.LINK if path.is_symlink() else Cause.DEVICE,
                )
        found |= {Path(root, name).relative_to(directory).as_posix() for name in files}
    expected = {MANIFEST, *manifest.files}
    if missing := sorted(expected - found):
        folder = any((directory / name).is_dir() for name in missing)
        raise BundleError(
            f"{directory}: expected the files {missing}, got {'a folder' if folder else 'none'}; copy the bundle again",
            Cause.DEVICE if folder else Cause.ABSENT,
        )
    if unlisted := sorted(found - expected - {SIGNATURE}):
        raise BundleError(
            f"{directory}: expected only listed files, got {unlisted}; delete them or copy it again", Cause.CHANGED
        )
    if lost := sorted({STEPS, WEIGHTS, GOLDEN} - expected):
        raise BundleError(
            f"{directory / MANIFEST}: expected entries for {lost}, got none; pack the bundle again", Cause.ABSENT
        )


def _refuse_foreign(path: Path, entry: FileEntry) -> None:
    """Weights of another size that are whole are another bundle's; those of twice the size are not looked at."""
    if path.stat().st_size != entry.bytes and path.stat().st_size <= 2 * entry.bytes:
        _require_not_whole(path)


def _require_not_whole(path: Path) -> None:
    """Raises BundleError for weights that end in their own sha256, of which it is known that they are not those."""
    size = path.stat().st_size - _DIGEST
    if size < 0:
        return
    with path.open("rb") as stream:
        found = hashlib.sha256()
        for at in range(0, size, _CHUNK):
            found.update(stream.read(min(_CHUNK, size - at)))
        if stream.read() == found.digest():
            raise BundleError(
                f"{path}: expected the weights of this bundle, got those of another; copy the bundle again",
                Cause.FOREIGN_WEIGHTS,
            )


def _check_digest(path: Path, entry: FileEntry) -> None:
    digest = sha256_file(path)
    if digest != entry.sha256:
        if path.name in _WEIGHTS:
            _require_not_whole(path)
        raise BundleError(
            f"{path}: expected sha256 {entry.sha256[:12]}..., got {digest[:12]}...; copy the bundle again",
            Cause.CHANGED,
        )


def _check_agreement(directory: Path, manifest: Manifest, index: Index) -> None:
    """What the manifest tells a person and the index tells the runtime must be the same."""
    if (manifest.steps, len(manifest.groups)) != (index.steps, len(index.libraries)):
        raise BundleError(
            f"{STEPS}: expected {manifest.steps} steps and {len(manifest.groups)} groups as in the manifest, "
            f"got {index.steps} and {len(index.libraries)}; pack the bundle again",
            Cause.WRONG_STEP_TABLE,
        )
    if manifest.checked != (index.golden_steps != NOT_COMPUTED):
        raise BundleError(
            f"{STEPS}: expected a golden output {'as' if manifest.checked else 'that nobody computed, as'} the "
            f"manifest says (checked: {manifest.checked}), got the opposite; pack the bundle again",
            Cause.WRONG_STEP_TABLE,
        )
    if _as_json(index.sampler) != dict(manifest.sampler):
        raise BundleError(
            f"{STEPS}: expected the sampler {json.dumps(dict(manifest.sampler), sort_keys=True)} of the manifest, got "
            f"{index.sampler}; pack the bundle again",
            Cause.WRONG_STEP_TABLE,
        )
    sizes = {WEIGHTS: index.weights_bytes, GOLDEN: index.golden_bytes}
    hashes = {WEIGHTS: index.weights_sha256, GOLDEN: index.golden_sha256}
    hashes |= {library.path: library.sha256 for library in index.libraries}
    sizes |= {library.path: library.bytes for library in index.libraries if library.bytes}
    for name, sha256 in hashes.items():
        entry = manifest.files.get(name)
        if entry is None or entry.sha256 != sha256.hex() or entry.bytes != sizes.get(name, entry.bytes):
            if name == WEIGHTS:
                _require_not_whole(directory / name)
            raise BundleError(
                f"{STEPS}: {name}: expected the size and sha256 of the manifest, got others; pack again",
                _absent_or(Cause.CHANGED, entry),
            )


def _check_decoder(directory: Path, manifest: Manifest, index: Index) -> list[Library]:
    """The library of the decoder, if there is one; its three files must belong together and to this bundle."""
    decoder = read_decoder(directory)
    if decoder is None:
        return []
    if not is_safe_path(decoder.library.path) or decoder.latent_shape != index.latent_shape:
        raise BundleError(
            f"{DECODER}: expected a library inside the bundle and latents {index.latent_shape}, got "
            f"{decoder.library.path!r} and {decoder.latent_shape}; pack again",
            Cause.WRONG_STEP_TABLE if is_safe_path(decoder.library.path) else Cause.OUTSIDE,
        )
    hashes = {decoder.library.path: decoder.library.sha256, DECODER_WEIGHTS: decoder.weights_sha256}
    for name, sha256 in hashes.items():
        entry = manifest.files.get(name)
        if entry is None or entry.sha256 != sha256.hex():
            if name == DECODER_WEIGHTS and entry is not None:
                _require_not_whole(directory / name)
            raise BundleError(
                f"{DECODER}: {name}: expected the sha256 of the manifest, got another; pack again",
                _absent_or(Cause.CHANGED, entry),
            )
    return [decoder.library]


def _absent_or(cause: Cause, entry: FileEntry | None) -> Cause:
    return Cause.ABSENT if entry is None else cause


def _as_json(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _check_elf(path: Path, machine: str | None) -> None:
    with path.open("rb") as stream:
        head = stream.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        raise BundleError(f"{path}: expected an ELF library, got {head[:4]!r}; build the library again")
    if machine is None:
        return
    expected, (got,) = _ELF_MACHINES.get(machine), struct.unpack("<H", head[18:20])
    if got != expected:
        names = {number: name for name, number in _ELF_MACHINES.items()}
        raise BundleError(
            f"{path}: expected a library for {machine}, got one for {names.get(got, got)}; "
            "compile for this machine or run it there",
            Cause.WRONG_ARCHITECTURE,
        )
