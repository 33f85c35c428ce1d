"""A bundle whose blocks are integers alone: each is one kernel of the emulated NPU, equal to its reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.arm_npu import needs_npu_arm
from support.integer_models import exported_integers, quantized_integers
from support.traced import devices_of_the_golden_run

from tvm_flow.backends.npu.arm.backend import NAME
from tvm_flow.compile.command import Compiled, compile_bundle
from tvm_flow.compile.options import CompileOptions
from tvm_flow.errors import BuildError
from tvm_flow.export import Exported
from tvm_flow.target.spec import TargetSpec

OPTIONS = CompileOptions(threads=1, progress=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("integers")
    return exported_integers(quantized_integers("spatial_blocks.0", folder), folder / "export")


@pytest.fixture(scope="module")
def compiled(exported: Exported, host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    both = replace(host, backends=(NAME, "cpu"))
    options = replace(OPTIONS, least_coverage=1.0)
    return compile_bundle(exported, both, tmp_path_factory.mktemp("npu") / "bundle", options)


@needs_npu_arm
def test_every_call_was_compared_and_nothing_of_a_block_is_left_to_the_cpu(compiled: Compiled) -> None:
    said = compiled.exactness
    assert said["calls"] == said["expected_calls"] > 0 and said["followed"] == 0
    assert said["accumulators"] > 0, "what an NPU's integers give is compared without any doubt"
    assert compiled.accelerated == 1.0 and compiled.groups == 1
    devices = devices_of_the_golden_run(compiled.bundle)
    assert {device for kernel, device in devices.items() if "integers" in kernel} == {NAME}
    assert sum("integers" in kernel for kernel in devices) == 3, "keys of a caption, a spatial block, a temporal one"


def test_a_cpu_says_what_it_lacks(exported: Exported, host: TargetSpec, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"target .* all refused: cpu: blocks in integers have no .* npu-arm-emulated"):
        compile_bundle(exported, host, tmp_path / "bundle", OPTIONS)
