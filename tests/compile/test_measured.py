"""The log says what each part of a compilation took."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tvm_flow.check.sampling import PerKernel
from tvm_flow.compile.command import compile_bundle
from tvm_flow.compile.measured import measured
from tvm_flow.compile.options import CompileOptions
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec


def test_a_block_is_measured_only_when_it_ends_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tvm_flow")
    with pytest.raises(ValueError, match="no"), measured("failing"):
        raise ValueError("no")
    with measured("working"):
        pass
    (record,) = caplog.records
    assert record.getMessage().startswith("working: 0.0 s, peak memory of the process ")


def test_compiling_and_checking_are_measured(
    exported: Exported, host: TargetSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tvm_flow")
    compile_bundle(exported, host, tmp_path / "b", CompileOptions(threads=1, progress=False, check=PerKernel(1)))
    said = [record.getMessage() for record in caplog.records if record.name == "tvm_flow.compile.measured"]
    assert [line.split(":")[0] for line in said] == ["compile steps, group0", "check generate on this machine"]
