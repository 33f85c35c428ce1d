"""Writing a bundle: a complete directory appears under its name, or nothing changes."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tvm_flow import __version__
from tvm_flow.artifact import sha256_file, write_bytes
from tvm_flow.errors import BundleError
from tvm_flow.folders import new_directory
from tvm_flow.pack.contents import Contents, Group
from tvm_flow.pack.decoder import DECODER, DECODER_WEIGHTS, LIBRARY, encode_decoder
from tvm_flow.pack.format import (
    GOLDEN,
    MANIFEST,
    STEPS,
    WEIGHTS,
    Library,
    encode_golden,
    encode_index,
    is_safe_path,
)
from tvm_flow.pack.manifest import FileEntry, Manifest, sealed


def write_bundle(directory: Path, contents: Contents) -> None:
    """Pack ``contents`` into ``directory``, replacing an older bundle whole.

    All is written beside ``directory`` and renamed when complete: after Ctrl-C the old bundle is still there.
    Raises BundleError when the contents contradict themselves, a library is absent, or ``directory`` is
    something else than a bundle.
    """
    contents.check()
    check_output(directory)
    with new_directory(directory) as temporary:
        libraries = _copy_libraries(temporary, contents)
        weights_sha256 = _place(temporary / WEIGHTS, contents.weights)
        golden_sha256 = _write(temporary / GOLDEN, encode_golden(contents))
        _write(temporary / STEPS, encode_index(contents, libraries, weights_sha256, golden_sha256))
        files = [WEIGHTS, GOLDEN, STEPS, *(library.path for library in libraries)]
        files += _write_decoder(temporary, contents)
        files += _copy_named(temporary, {**contents.extra, **contents.static})
        manifest = Manifest(
            version=__version__,
            target=contents.target,
            sampler=contents.sampler,
            provenance=contents.provenance,
            steps=contents.steps,
            groups=tuple(group.name for group in contents.groups),
            files={name: _entry(temporary / name) for name in files},
            static=tuple(contents.static),
            checked=contents.golden.computed,
        )
        write_bytes(temporary / MANIFEST, sealed(manifest.to_json()))


def check_output(directory: Path) -> None:
    """Raise BundleError when ``directory`` holds something else than a bundle.

    A mistyped output path must not cost somebody a folder, nor be found out only after a build.
    """
    if directory.exists() and not (directory / MANIFEST).is_file() and not _is_empty(directory):
        found = "a folder with other files" if directory.is_dir() else "a file"
        raise BundleError(
            f"{directory}: expected nothing, an empty folder or a bundle to replace, got {found}; choose another path"
        )


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


def _write_decoder(temporary: Path, contents: Contents) -> list[str]:
    """The files of the decoder, written; none without one."""
    decoder = contents.decoder
    if decoder is None:
        return []
    library = _copy_library(temporary, contents, Group(LIBRARY, decoder.library, 0))
    weights_sha256 = _write(temporary / DECODER_WEIGHTS, decoder.weights)
    _write(temporary / DECODER, encode_decoder(decoder, contents.latent_shape, library, weights_sha256))
    return [DECODER, DECODER_WEIGHTS, library.path]


def _copy_libraries(temporary: Path, contents: Contents) -> list[Library]:
    return [_copy_library(temporary, contents, group) for group in contents.groups]


def _copy_library(temporary: Path, contents: Contents, group: Group) -> Library:
    target = str(contents.target.get("name", ""))
    path = f"lib/{target}/{group.name}.so"
    if not is_safe_path(path) or "/" in target or "/" in group.name:
        raise BundleError(
            f"{path}: expected plain names for target['name'] and the group, got {target!r} and "
            f"{group.name!r}; use letters, digits, dots and dashes"
        )
    if not group.library.is_file():
        raise BundleError(f"{group.library}: expected the library of group {group.name}; build it first")
    copy = temporary / path
    if copy.exists():
        raise BundleError(f"group {group.name}: expected names to differ, got it twice; rename one")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(group.library, copy)
    return Library(path, bytes.fromhex(sha256_file(copy)), group.variant_floats, copy.stat().st_size)


def _place(path: Path, weights: bytes | bytearray | memoryview | Path) -> bytes:
    """A file of weights becomes a second name of the same bytes where the file system can do that."""
    if not isinstance(weights, Path):
        return _write(path, weights)
    try:
        path.hardlink_to(weights)
    except OSError:
        shutil.copyfile(weights, path)
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
    return bytes.fromhex(sha256_file(path))


def _copy_named(temporary: Path, named: Mapping[str, Path]) -> list[str]:
    """By their paths in the bundle; programs stay executable."""
    for path, source in named.items():
        if not is_safe_path(path) or (temporary / path).exists():
            raise BundleError(f"{path}: expected a path of its own inside the bundle for {source}, got this; rename it")
        if not source.is_file():
            raise BundleError(f"{source}: expected the file for {path}; build it first")
        (temporary / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, temporary / path)
    return list(named)


def _write(path: Path, data: bytes | bytearray | memoryview) -> bytes:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return hashlib.sha256(data).digest()


def _entry(path: Path) -> FileEntry:
    return FileEntry(path.stat().st_size, sha256_file(path))
