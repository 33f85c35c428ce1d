"""Files that commands leave behind: whole or absent, and stamped with what they were made from.

A file is written to a temporary name beside its target, flushed to disk and renamed, so that a reader never sees half
of one. A stamp (``NAME.stamp.json``) records the sha256 of every input and the options; a command whose stamp still
holds has nothing to do. The stamp is written last: a file without a stamp is not current.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvm_flow import __version__
from tvm_flow.errors import ConfigError


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success fsync it and rename it to ``target``.

    On any exception, Ctrl-C included, the temporary file is removed and ``target`` stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.chmod(0o644)  # some writers create files that only their owner can read
        _fsync(temporary)
        temporary.replace(target)
        _fsync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(target: Path, data: bytes) -> None:
    """Write ``data`` to ``target`` whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as sorted, indented JSON, whole or not at all."""
    write_bytes(target, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def read_json(path: Path) -> Any:
    """Parse ``path``; raises ConfigError naming the file when it is absent or not JSON."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a readable JSON file, got: {error}; check the path") from error


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_stamp(inputs: Mapping[str, Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """What an output depends on: the package version, the sha256 of each input file, and the options."""
    return {
        "version": __version__,
        "inputs": {name: sha256_file(path) for name, path in sorted(inputs.items())},
        "options": json.loads(json.dumps(options, sort_keys=True)),
    }


def stamp_path(output: Path) -> Path:
    """Where the stamp of ``output`` lies."""
    return output.with_name(output.name + ".stamp.json")


def is_current(output: Path, stamp: Mapping[str, Any]) -> bool:
    """True when ``output`` exists and was made from exactly what ``stamp`` names."""
    path = stamp_path(output)
    if not (output.exists() and path.exists()):
        return False
    try:
        return bool(json.loads(path.read_text()) == stamp)
    except ValueError:
        return False


def write_stamp(output: Path, stamp: Mapping[str, Any]) -> None:
    """Declare ``output`` finished. Call it last."""
    write_json(stamp_path(output), stamp)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
