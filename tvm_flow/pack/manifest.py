"""manifest.json: what a bundle is made of, readable by a person."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_flow.causes import Cause
from tvm_flow.errors import BundleError
from tvm_flow.pack.format import MANIFEST, SCHEMA, is_safe_path, require_schema
from tvm_flow.pack.regular import MANIFEST_MOST, cause_of, cause_of_size, read_regular


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
    schema: int = SCHEMA

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of those that its libraries may need, as the target lists them; the CPU alone where it lists none."""
        return tuple(str(name) for name in self.target.get("backends", ("cpu",)))

    def to_json(self) -> dict[str, Any]:
        """What `read_manifest` reads back."""
        entries = {path: {"bytes": entry.bytes, "sha256": entry.sha256} for path, entry in self.files.items()}
        return {
            "schema": self.schema,
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


def read_manifest(directory: Path) -> Manifest:
    """Parse manifest.json.

    Raises BundleError when it is absent, no regular file, too long, malformed, changed, unsafe or of another schema.
    """
    path = directory / MANIFEST
    value = _parse(directory, path)
    fields: dict[str, type] = {
        **{"version": str, "steps": int, "groups": list, "files": dict},
        **{"target": dict, "sampler": dict, "provenance": dict},
    }
    for name, kind in fields.items():
        if type(value.get(name)) is not kind:
            raise BundleError(f"{path}: {name}: expected {kind.__name__}, got {value.get(name)!r:.60}; pack again")
    if len({name.casefold() for name in value["files"]}) < len(value["files"]):
        raise BundleError(
            f"{path}: files: expected names that differ by more than their case, got two that do not; pack again",
            Cause.DUPLICATE_NAME,
        )
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
        schema=value["schema"],
    )


def _parse(directory: Path, path: Path) -> dict[str, Any]:
    """The object in ``path``, whose text is what its sha256 is of, in this reader's schema."""
    try:
        text = read_regular(path, MANIFEST_MOST)
        value = json.loads(text.decode())
    except (OSError, ValueError, RecursionError) as error:
        cause = cause_of(error) if isinstance(error, OSError) else _cause_of_text(text, error)
        raise BundleError(
            f"{path}: expected a readable JSON file, got: {_in_words(directory, error)}; check the bundle's path", cause
        ) from error
    schema = value.get("schema") if isinstance(value, dict) else None
    sealed_so = isinstance(value, dict) and text == sealed({n: entry for n, entry in value.items() if n != "sha256"})
    if sealed_so or not isinstance(value, dict) or "sha256" not in value:
        require_schema(path, schema)
    if not sealed_so:
        raise BundleError(
            f"{path}: expected the text that its sha256 is of, got another; copy the bundle again, or pack it with "
            "this version of tvm-flow",
            _cause_of_text(text),
        )
    assert isinstance(value, dict)
    return value


_END = b"\n}\n"


def _cause_of_text(text: bytes, error: Exception | None = None) -> Cause:
    """TRUNCATED where the text stops before its end: fewer than two of its last three bytes are there, or a parser
    wants more. One changed bit leaves two of them, and an error before the end."""
    there = sum(got == expected for got, expected in zip(text[-3:], _END, strict=False))
    wants_more = isinstance(error, json.JSONDecodeError) and error.pos == len(text)
    return Cause.TRUNCATED if there < 2 or wants_more else Cause.CHANGED


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
        raise BundleError(
            f"{path}: expected {entry.bytes} bytes, got {size}; copy the bundle again", cause_of_size(entry.bytes, size)
        )


def _entry(manifest: Path, name: str, value: object) -> FileEntry:
    if not is_safe_path(name):
        raise BundleError(
            f"{manifest}: file {name!r}: expected a relative path inside the bundle; do not use this bundle",
            Cause.OUTSIDE,
        )
    if isinstance(value, dict) and type(value.get("bytes")) is int and type(value.get("sha256")) is str:
        return FileEntry(value["bytes"], value["sha256"])
    raise BundleError(f"{manifest}: file {name!r}: expected bytes and sha256, got {value!r:.60}; pack again")
