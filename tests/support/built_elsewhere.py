"""A program: every stage of the tiny model into a folder, in whatever environment it is started in.

python -m support.built_elsewhere FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from support import tiny_model
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.target.spec import load_target

RECIPE = "w8a8"


def main(folder: Path) -> None:
    """Ranges, quantized model, export and bundle, by the names that `tiny_fixtures` gives them; two threads."""
    _, exported = tiny_model.make_export(tiny_model.make_ranges(folder), RECIPE, folder)
    compile_bundle(exported, load_target("host"), folder / "bundle", CompileOptions(threads=2, progress=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
