"""``--require-coverage``: a compilation whose work stays on the CPU is an error before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec


def test_it_fails_for_a_current_bundle_too(
    exported: Exported, host: TargetSpec, compiler: Callable[[str, str], Compiled]
) -> None:
    compiled, options = compiler("w8a8", "host"), CompileOptions(threads=1, progress=False)
    assert compiled.coverage == () and compiled.accelerated == 0.0
    files = {path: path.read_bytes() for path in compiled.bundle.rglob("*") if path.is_file()}
    with pytest.raises(BuildError, match=r"group0: expected at least 95\.0% of the MACs"):
        compile_bundle(exported, host, compiled.bundle, replace(options, least_coverage=0.95))
    assert files == {path: path.read_bytes() for path in compiled.bundle.rglob("*") if path.is_file()}
