"""Installing a bundle in the place of another: at every moment the old one or the new one lies there, whole.

    copy     into a folder beside it, the files that the manifest lists; every byte of the copy is checked then
    try      the copy's golden inputs, steps and decoder, while the old one stays where programs find it
    put      files and folders to disk, then the copy in the old one's place, which is removed (`tvm_flow.folders`)

Killed or without power before that exchange, the old one lies there, after it the new one. What is beside them is
nothing that is needed at any time, so the next run begins by removing it. Where the file system cannot exchange two
names, nothing is there between two renames, and the next run puts the old one back (`tvm_flow.scratch`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tvm_flow.artifact import exclusive, linked
from tvm_flow.errors import BundleError, ConfigError
from tvm_flow.folders import new_directory
from tvm_flow.pack import check_output, read_decoder, read_manifest
from tvm_flow.pack.format import MANIFEST, SIGNATURE
from tvm_flow.pack.manifest import FileEntry
from tvm_flow.pack.regular import open_regular
from tvm_flow.pack.signature import read_signature
from tvm_flow.pack.trust import Trust, check_trust, verify_signature
from tvm_flow.run.bundle import Bundle
from tvm_flow.run.decoder import BundleDecoder


def install_bundle(source: Path, target: Path, trust: Trust | None = None, threads: int = 0) -> None:
    """Put a copy of the bundle ``source`` in the place of ``target``, once its golden inputs gave their outputs here.

    With ``trust`` it has to be signed so; where ``target`` is, of the same model and no older version than that.
    Raises SignatureError for one that is not, BundleError for one that is not whole or computes something else here,
    ConfigError when ``target`` is ``source`` or another command writes it. ``target`` stays as it was then.
    """
    target = linked(target)
    check_output(target)
    if target.exists() and target.samefile(source):
        raise ConfigError(f"{target}: expected another place than the bundle's own; name one with --into")
    with exclusive(target):
        asked = None if trust is None else _not_older(target, trust)
        if asked is not None:
            verify_signature(source, asked)  # before gigabytes are copied; the copy is what counts
        with new_directory(target) as new:
            _copy(source, new)
            _try(new, asked, threads)


def _not_older(target: Path, trust: Trust) -> Trust:
    """``trust`` that asks for the model and version of what is installed, if that is signed by a trusted key."""
    try:
        installed = check_trust(trust, read_signature(target))
    except BundleError:
        return trust
    return trust.at_least(installed.model, installed.version)


def _copy(source: Path, new: Path) -> None:
    """What the manifest lists, the manifest and the signature; sizes are compared before bytes are copied."""
    listed: dict[str, FileEntry | None] = {MANIFEST: None, **read_manifest(source).files}
    if (source / SIGNATURE).is_file():
        listed[SIGNATURE] = None
    for name, entry in listed.items():
        copy = new / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with open_regular(source / name) as (stream, size), copy.open("xb") as out:
            if entry is not None and size != entry.bytes:
                raise BundleError(f"{source / name}: expected {entry.bytes} bytes, got {size}; copy the bundle again")
            shutil.copyfileobj(stream, out)
        shutil.copymode(source / name, copy)


def _try(new: Path, trust: Trust | None, threads: int) -> None:
    with Bundle.open(new, threads=threads, trust=trust) as bundle:
        bundle.verify()
    if read_decoder(new) is not None:
        with BundleDecoder.open(new, threads=threads, trust=trust) as decoder:
            decoder.verify()
