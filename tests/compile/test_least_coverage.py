"""``--require-coverage``: a compilation whose work stays on the CPU is an error before anything is run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tvm_flow.check.sampling import parse_check
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.target.spec import load_target

UNCHECKED = CompileOptions(threads=1, progress=False, check=parse_check("none"))


def test_it_fails_for_a_current_bundle_too(exported: Exported, tmp_path: Path) -> None:
    host, output = load_target("host"), tmp_path / "bundle"
    compiled = compile_bundle(exported, host, output, UNCHECKED)
    assert compiled.coverage == () and compiled.accelerated == 0.0
    files = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    with pytest.raises(BuildError, match=r"group0: expected at least 95\.0% of the MACs"):
        compile_bundle(exported, host, output, replace(UNCHECKED, least_coverage=0.95))
    assert files == {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
