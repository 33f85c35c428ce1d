"""The stage ``package``: an export that is unchanged, and a folder that is the package's own."""

from __future__ import annotations

from pathlib import Path

from tvm_flow.artifact import exclusive, require_unchanged
from tvm_flow.compile.ethos_command import STEM, package_ethos
from tvm_flow.compile.ethos_report import EthosPackage
from tvm_flow.compile.htp_command import INDEX, REGION, HtpPackage, package_htp
from tvm_flow.compile.step_members import PackageOptions
from tvm_flow.errors import BuildError
from tvm_flow.export import load_exported
from tvm_flow.folders import keep_others, new_directory
from tvm_flow.toolchain.qualcomm import SOCS


def package_stage(exported: Path, options: PackageOptions, output: Path) -> EthosPackage | HtpPackage:
    """Write the package that ``options`` ask for, for an Ethos-U or an SoC of Qualcomm's, into the folder ``output``.

    Raises BuildError where ``output`` is a file or has other files, ExportError for an export that was changed; see
    `package_ethos` and `package_htp`.
    """
    if output.exists() and not output.is_dir():
        raise BuildError(f"{output}: expected a folder, got a file; choose another output")
    if output.is_dir() and not _replaceable(output, INDEX if options.device in SOCS else f"{STEM}.h"):
        raise BuildError(f"{output}: expected nothing or a package to replace, got other files; choose another output")
    given = load_exported(exported)
    require_unchanged(exported, "export")
    with exclusive(output):
        with new_directory(output) as folder:
            package = (package_htp if options.device in SOCS else package_ethos)(given, options, folder)
            keep_others(output, folder, lambda name: name.startswith(REGION))
        return package


def _replaceable(output: Path, ours: str) -> bool:
    """Whether ``output`` has our file, or nothing but what an interrupted package leaves."""
    return (output / ours).is_file() or all(file.name.startswith(REGION) for file in output.iterdir())
