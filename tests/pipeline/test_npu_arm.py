"""A bundle whose products run on the emulated NPU: every call compared, and the trace says who ran what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.arm_npu import needs_npu_arm
from support.traced import devices_of_the_golden_run

from tvm_flow.backends.npu.arm.backend import NAME
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.export import Exported
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack import read_golden
from tvm_flow.target.spec import TargetSpec

pytestmark = needs_npu_arm
OPTIONS = CompileOptions(threads=1, progress=False, least_coverage=0.8)


@pytest.fixture(scope="module")
def compiled(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    both = replace(host, backends=(NAME, "cpu"))
    return compile_bundle(exported, both, tmp_path_factory.mktemp("npu") / "bundle", OPTIONS)


def test_every_call_was_compared_and_most_of_the_work_left_the_cpu(compiled: Compiled) -> None:
    said = compiled.exactness
    assert said["calls"] == said["expected_calls"] > 0 and said["followed"] == 0
    assert compiled.accelerated >= 0.8
    assert any(line.startswith(f"group0: {NAME} runs ") for line in compiled.coverage)
    assert any(f"{NAME} refused " in line and "; " in line for line in compiled.coverage)


def test_the_golden_output_is_repeated_and_the_trace_names_the_device(compiled: Compiled) -> None:
    devices = devices_of_the_golden_run(compiled.bundle)
    assert set(devices.values()) == {NAME, "cpu"}
    gelus = {kernel for kernel in devices if "exp_round" in kernel and "max_exp" not in kernel}  # not a softmax
    assert {devices[kernel] for kernel in gelus} == {NAME}, "GELU and its codes are the NPU's"


def test_latents_are_near_those_of_the_cpu(
    compiled: Compiled, exported: Exported, host: TargetSpec, tmp_path: Path
) -> None:
    """Its rounding moves codes by one: as much as between two int8 models, and far from a wrong layer."""
    alone = compile_bundle(exported, host, tmp_path / "bundle", replace(OPTIONS, least_coverage=0.0))
    ours, theirs = (read_golden(bundle).latents for bundle in (alone.bundle, compiled.bundle))
    assert not np.array_equal(ours, theirs), "or nothing rounds by the NPU's rule"
    assert psnr_db(ours, theirs) > 30
