"""manifest.json: what a bundle is made of, readable by a person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tvm_flow.errors import BundleError
from tvm_flow.pack.format import MANIFEST, SCHEMA
from tvm_flow.pack.regular import MANIFEST_MOST, read_regular


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and hex sha256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The fields of manifest.json; ``files`` maps paths with forward slashes to their entries.

    ``static`` are those of ``files`` that a program is linked with to have the groups in it. ``checked``: its kernels
    were compared with the reference, and its golden output is what they gave.
    """

    version: str
    target: Mapping[str, Any]
    sampler: Mapping[str, Any]
    provenance: Mapping[str, Any]
    steps: int
    groups: tuple[str, ...]
    files: Mapping[str, FileEntry]
    static: tuple[str, ...] = ()
    checked: bool = True

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of those that its libraries may need, as the target lists them; the CPU alone where it lists none."""
        return tuple(str(name) for name in self.target.get("backends", ("cpu",)))

    def to_json(self) -> dict[str, Any]:
        """What `read_manifest` reads back."""
        entries = {path: {"bytes": entry.bytes, "sha256": entry.sha256} for path, entry in self.files.items()}
        return {
            "schema": SCHEMA,
            "version": self.version,
            "target": dict(self.target),
            "sampler": dict(self.sampler),
            "provenance": dict(self.provenance),
            "steps": self.steps,
            "groups": list(self.groups),
            "files": entries,
            "static": list(self.static),
            "checked": self.checked,
        }


def sealed(values: Mapping[str, Any]) -> bytes:
    """manifest.json of ``values``: sorted, indented JSON, "sha256" being that of the same text without it."""
    digest = hashlib.sha256(_text(values)).hexdigest()
    return _text({**values, "sha256": digest})


def _text(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def is_safe_path(path: str) -> bool:
    """True for a relative path of plain components: nothing that leaves the bundle."""
    parts = path.split("/")
    plain = all(part not in ("", ".", "..") for part in parts)
    return plain and "\\" not in path and "\0" not in path and not PurePosixPath(path).is_absolute()


def read_manifest(directory: Path) -> Manifest:
    """Parse manifest.json.

    Raises BundleError when it is absent, no regular file, too long, malformed, changed, unsafe or of another schema.
    """
    path = directory / MANIFEST
    try:
        text = read_regular(path, MANIFEST_MOST)
        value = json.loads(text.decode())
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path}: expected a readable JSON file, got: {_in_words(directory, error)}; check the bundle's path"
        ) from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        got = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise BundleError(f"{path}: expected schema {SCHEMA}, got {got!r}; pack with this version of tvm-flow")
    if text != sealed({name: entry for name, entry in value.items() if name != "sha256"}):
        raise BundleError(
            f"{path}: expected the text that its sha256 is of, got another; copy the bundle again, or pack it with "
            "this version of tvm-flow"
        )
    fields: dict[str, type] = {
        **{"version": str, "steps": int, "groups": list, "files": dict},
        **{"target": dict, "sampler": dict, "provenance": dict},
    }
    for name, kind in fields.items():
        if type(value.get(name)) is not kind:
            raise BundleError(f"{path}: {name}: expected {kind.__name__}, got {value.get(name)!r:.60}; pack again")
    static = value.get("static", [])
    if type(static) is not list or not set(map(str, static)) <= set(value["files"]):
        raise BundleError(f"{path}: static: expected a list of paths in files, got {static!r:.60}; pack again")
    checked = value.get("checked", True)
    if type(checked) is not bool:
        raise BundleError(f"{path}: checked: expected true or false, got {checked!r:.60}; pack again")
    return Manifest(
        **{name: value[name] for name in fields if name not in ("groups", "files")},
        groups=tuple(str(name) for name in value["groups"]),
        files={name: _entry(path, name, entry) for name, entry in value["files"].items()},
        static=tuple(static),
        checked=checked,
    )


def _in_words(directory: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        found = "a folder that holds none" if directory.is_dir() else f"nothing, since there is no folder {directory}"
        return f"{found}; make a bundle (tvm-flow compile or build)"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def require_checked(directory: Path, manifest: Manifest, unchecked: bool) -> None:
    """Raises BundleError for a bundle that nobody checked, unless ``unchecked`` says that this is known."""
    if not (manifest.checked or unchecked):
        raise BundleError(
            f"{directory}: expected a bundle whose kernels were compared with the reference, got one that was compiled "
            "with --check none; compile it where its target can be checked, or run it as it is: --unchecked "
            "(unchecked=True)"
        )


def check_size(path: Path, entry: FileEntry) -> None:
    """Raises BundleError when the file ``path`` is not as long as ``entry`` says; OSError when it is absent."""
    size = path.stat().st_size
    if size != entry.bytes:
        raise BundleError(f"{path}: expected {entry.bytes} bytes, got {size}; copy the bundle again")


def _entry(manifest: Path, name: str, value: object) -> FileEntry:
    if not is_safe_path(name):
        raise BundleError(
            f"{manifest}: file {name!r}: expected a relative path inside the bundle; do not use this bundle"
        )
    if isinstance(value, dict) and type(value.get("bytes")) is int and type(value.get("sha256")) is str:
        return FileEntry(value["bytes"], value["sha256"])
    raise BundleError(f"{manifest}: file {name!r}: expected bytes and sha256, got {value!r:.60}; pack again")
