"""Names of targets, looked up without LLVM: a typing error is found at once, and the name that was meant is said."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from tvm_flow.errors import ConfigError
from tvm_flow.shipped import shipped_folder

HOST = "host"


def targets_folder() -> Path:
    """Where the named targets are."""
    return shipped_folder("targets")


def target_path(name: str) -> Path:
    """The file of a target: ``name`` itself when it is one, else that of ``targets/``."""
    return Path(name) if name.endswith((".yaml", ".yml")) else targets_folder() / f"{name}.yaml"


def require_target(name: str) -> None:
    """Raise ConfigError, with what may have been meant and all known names, for a target that is none."""
    if name == HOST or target_path(name).is_file():
        return
    known = sorted({HOST, *(path.stem for path in targets_folder().glob("*.yaml"))})
    near = get_close_matches(name, known, n=1)
    meant = f"; did you mean {near[0]}?" if near else "; choose one of them"
    raise ConfigError(f"target {name!r}: expected one of {', '.join(known)} or a YAML file{meant}")
