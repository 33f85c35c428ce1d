"""Installing a bundle in the place of another: at every moment the old one or the new one lies there, whole.

    copy     into .NAME.new beside NAME, the files that the manifest lists; every byte of the copy is checked then
    try      the copy's golden inputs, steps and decoder, while the old one stays where programs find it
    sync     files and folders to disk
    exchange NAME and .NAME.new, in one step (renameat2, RENAME_EXCHANGE); the old one is removed after that

Killed or without power before the exchange, the old one lies there, after it the new one. .NAME.new is nothing that is
needed at any time, so the next run begins by removing it. Where the file system cannot exchange, NAME becomes .NAME.old
and .NAME.new becomes NAME: between these two nothing is there, and the next run puts .NAME.old back.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tvm_flow.artifact import exclusive, fsync, linked
from tvm_flow.errors import BundleError, ConfigError
from tvm_flow.folders import exchange
from tvm_flow.pack import check_output, read_decoder, read_manifest
from tvm_flow.pack.format import MANIFEST, SIGNATURE
from tvm_flow.pack.manifest import FileEntry
from tvm_flow.pack.regular import open_regular
from tvm_flow.pack.signature import read_signature
from tvm_flow.pack.trust import Trust, check_trust, verify_signature
from tvm_flow.run.bundle import Bundle
from tvm_flow.run.decoder import BundleDecoder
from tvm_flow.scratch import naming


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
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target), naming(target, _beside(target, "new")):
        recover(target)
        asked = None if trust is None else _not_older(target, trust)
        if asked is not None:
            verify_signature(source, asked)  # before gigabytes are copied; the copy is what counts
        new = _beside(target, "new")
        try:
            _copy(source, new)
            _try(new, asked, threads)
            for path in [*new.rglob("*"), new]:
                fsync(path)
            _put(new, target)
            fsync(target.parent)
        finally:
            _remove(new)


def recover(target: Path) -> None:
    """End what an installation that was killed began: what is under ``target`` after that is whole, and alone."""
    old = _beside(target, "old")
    if old.is_dir() and not target.exists():
        old.rename(target)
        fsync(target.parent)
    for left in (old, _beside(target, "new")):
        _remove(left)


def _beside(target: Path, word: str) -> Path:
    return target.with_name(f".{target.name}.{word}")


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


def _put(new: Path, target: Path) -> None:
    """``new`` under the name ``target``; what was there ends up under ``new``'s name, or is removed."""
    if not target.exists():
        new.rename(target)
    elif not exchange(new, target):
        old = _beside(target, "old")
        target.rename(old)
        try:
            new.rename(target)
        except BaseException:
            old.rename(target)
            raise
        fsync(target.parent)
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
