"""The stage ``package``: an export that is unchanged, and a folder that is the package's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tvm_flow.artifact import exclusive, require_unchanged
from tvm_flow.compile.ethos_command import STEM, EthosPackage, package_ethos
from tvm_flow.errors import BuildError
from tvm_flow.export import load_exported


def package_stage(exported: Path, accelerator: str, steps: Sequence[int], output: Path) -> EthosPackage:
    """Write the package of ``steps`` into the folder ``output``; see `package_ethos`.

    Raises BuildError where ``output`` is a file or has other files, ExportError for an export that was changed.
    """
    if output.exists() and not output.is_dir():
        raise BuildError(f"{output}: expected a folder, got a file; choose another output")
    if output.is_dir() and any(output.iterdir()) and not (output / f"{STEM}.h").is_file():
        raise BuildError(f"{output}: expected nothing or a package to replace, got other files; choose another output")
    given = load_exported(exported)
    require_unchanged(exported, "export")
    with exclusive(output):
        return package_ethos(given, accelerator, steps, output)
