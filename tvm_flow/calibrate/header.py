"""What a safetensors file of this project says of itself, in its header's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tvm_flow.artifact import expect_file, stamp_path
from tvm_flow.documents import parse_json
from tvm_flow.errors import ConfigError


def header_of(path: Path) -> dict[str, Any]:
    """The metadata, and the keys of the JSON object under ``tvm_flow``; empty for what is no safetensors."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
        found = parse_json(metadata.get("tvm_flow", "{}").encode())
    except (OSError, SafetensorError, ValueError):
        return {}
    return metadata | (found if isinstance(found, dict) else {})


def expect_own(output: Path, what: str, key: str) -> None:
    """Raise ConfigError when ``output`` is there and is not ``what``; call it before the work.

    Its header has ``key``, or, when it is damaged, its stamp lies beside it. A mistyped output must not cost somebody a
    file.
    """
    expect_file(output)
    own = not output.exists() or key in header_of(output) or stamp_path(output).exists()
    if not own:
        raise ConfigError(
            f"{output}: expected nothing or {what} to replace, got another file; choose another output or delete it"
        )
