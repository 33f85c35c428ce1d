"""How two bundles differ: for `tvm-flow diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tvm_flow.pack import FileEntry, read_manifest

ABSENT = "absent"
_ORDER = ("version", "checked", "schema", "target", "sampler", "steps", "groups", "provenance", "static")
_NAMES = {"provenance.recipe": "quantization", "provenance.compiled": "measured", "provenance.": ""}


def bundle_differences(one: Path, other: Path) -> list[str]:
    """A line for each field of the manifests, and each file's size or bytes, that differ; none when all is equal.

    Raises BundleError for a folder that is no bundle.
    """
    left, right = read_manifest(one), read_manifest(other)
    fields = [_flat(manifest.to_json() | {"files": {}}) for manifest in (left, right)]
    keys = sorted({*fields[0], *fields[1]}, key=lambda key: (_ORDER.index(key.split(".")[0]), key))
    lines = [_line(key, *(side.get(key, ABSENT) for side in fields)) for key in keys]
    return [line for line in lines if line] + list(_files(left.files, right.files))


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields by dotted names; lists stay whole."""
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return out


def _line(key: str, left: Any, right: Any) -> str:
    if left == right:
        return ""
    for long, short in _NAMES.items():
        if key.startswith(long):
            key = short + key.removeprefix(long)
            break
    if isinstance(left, list) and isinstance(right, list):
        left, right = ([v for v in a if v not in b] for a, b in ((left, right), (right, left)))
        return f"{key}: only the first has {_text(left)}, only the second {_text(right)}"
    return f"{key}: {_text(left)} | {_text(right)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _files(left: Mapping[str, FileEntry], right: Mapping[str, FileEntry]) -> Iterator[str]:
    for name in sorted({*left, *right}):
        a, b = left.get(name), right.get(name)
        if a is not None and b is not None and a.bytes == b.bytes and a.sha256 != b.sha256:
            yield f"{name}: {a.bytes:,} bytes in both, sha256 {a.sha256[:12]} | {b.sha256[:12]}"
        elif a != b:
            yield f"{name}: {_size(a)} | {_size(b)}"


def _size(entry: FileEntry | None) -> str:
    return ABSENT if entry is None else f"{entry.bytes:,} bytes, sha256 {entry.sha256[:12]}"
