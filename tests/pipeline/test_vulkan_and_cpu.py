"""Vulkan and the CPU in one bundle: kernels go where they may, and what crosses is copied, counted and said."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from support.small_demo import SmallDemo
from support.validated_vulkan import Said, validated

from tvm_flow.backends import registry
from tvm_flow.backends.base import Kernel, Offer
from tvm_flow.backends.packed import Refusal
from tvm_flow.backends.vulkan.backend import VULKAN, VulkanBackend
from tvm_flow.compile.command import Compiled
from tvm_flow.compile.options import CompileOptions
from tvm_flow.pack import read_golden
from tvm_flow.pipeline.stages import compile_stage
from tvm_flow.run import Bundle

pytestmark = pytest.mark.usefixtures("kernels_once")
MAY_NOT = "it takes rows alone here"


class Rows(VulkanBackend):
    """The rest goes to the CPU, so that the border is crossed often."""

    def offers(self, kernel: Kernel, target: object) -> Offer | Refusal:
        offered = super().offers(kernel, target)  # type: ignore[arg-type]
        rows = isinstance(offered, Refusal) or "rows" in offered.implementation
        return offered if rows else Refusal(MAY_NOT, "wait")


@pytest.fixture(scope="module")
def said() -> Iterator[Said]:
    registry.forget_backend(VULKAN)
    registry.register_backend(Rows())
    with validated() as layers:
        yield layers
    registry.forget_backend(VULKAN)


@pytest.fixture(scope="module")
def compiled(demo: SmallDemo, said: Said, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    output = tmp_path_factory.mktemp("spread") / "bundle"
    made = compile_stage(demo.exported.folder, "vulkan-llvmpipe", output, CompileOptions(threads=1, progress=False))
    assert said.text == ""
    return made


def test_every_call_was_compared_wherever_it_ran(demo: SmallDemo, compiled: Compiled) -> None:
    there = compiled.exactness
    assert there["calls"] == there["expected_calls"] == demo.compiled.exactness["calls"]


def test_what_runs_where_and_what_crosses_is_said(compiled: Compiled) -> None:
    said = "\n".join(compiled.coverage)
    assert re.search(r"^group0: vulkan runs 0\.0% of the MACs: \d+ calls", said, re.M)
    assert re.search(rf"^group0: vulkan refused \d+ calls.*: {MAY_NOT}; wait$", said, re.M)
    crossed = re.search(r"^group0: (\d+) crossings, (\d+) bytes across borders$", said, re.M)
    assert crossed is not None and int(crossed[1]) > 20 and int(crossed[2]) > 100_000
    kinds = [line.split(",")[0] for line in compiled.kernels]
    assert "vulkan: shader" in kinds and any(kind.startswith("attention: ") for kind in kinds)


@pytest.mark.parametrize("own_memory", ["0", "1"])
def test_the_golden_output_is_repeated(
    compiled: Compiled, said: Said, own_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the device shares its memory with the CPU, and as if it had its own."""
    monkeypatch.setenv("TVM_FLOW_VULKAN_OWN_MEMORY", own_memory)
    golden, devices = read_golden(compiled.bundle), set()
    with Bundle.open(compiled.bundle, threads=1) as bundle:
        bundle.verify()
        with bundle.trace(lambda call: devices.add(call.device)):
            latents = bundle.generate(golden.noise, golden.cond, golden.uncond)
    assert latents.tobytes() == golden.latents.tobytes()
    assert devices == {"vulkan", "cpu"} and said.text == ""
