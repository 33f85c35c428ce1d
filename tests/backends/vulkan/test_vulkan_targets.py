"""Every shipped Vulkan target compiles all kernels of the tiny model: no shader needs what a device lacks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tvm_flow.backends.vulkan.shader import packed_product, shader
from tvm_flow.export import Exported
from tvm_flow.export.decoder_file import load_decoder
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import import_graph
from tvm_flow.lower.partition import partition
from tvm_flow.target.spec import load_target
from tvm_flow.target.target_names import targets_folder
from tvm_flow.target.vulkan_device import VulkanDevice

TARGETS = sorted(path.stem for path in targets_folder().glob("vulkan-*.yaml"))
DIFFERENT = {replace(load_target(name).vulkan or VulkanDevice(), source="x"): name for name in reversed(TARGETS)}
"""Of targets whose devices differ in nothing but where that is said, one is enough."""


@pytest.fixture(scope="module")
def programs(ending_export: Exported) -> Iterator[list[Program]]:
    """A step, which its prologue begins, and a decoder."""
    decoder = load_decoder(ending_export.folder)
    assert decoder is not None
    yield [partition(import_graph(path)) for path in (ending_export.graphs[-1][0], decoder.graph)]


@pytest.mark.parametrize("name", sorted(DIFFERENT.values()))
def test_every_kernel_has_a_valid_shader(name: str, programs: list[Program]) -> None:
    """glslang and spirv-val of the target's Vulkan version accept each."""
    device = load_target(name).vulkan
    assert device is not None
    for program in programs:
        constants = program.graph.constants
        for call in {call.kernel: call for call in program.calls}.values():
            function = program.kernels[call.kernel]
            product = packed_product(function, tuple(arg in constants for arg in call.args))
            made = shader(call.kernel, function, device, product=product)
            for form in (made, made.fallback) if made.fallback else (made,):
                assert set(form.capabilities) <= device.capabilities
                assert form.shared_bytes <= device.shared_bytes and form.local[0] <= device.invocations
            assert (made.fallback is not None) == (product is not None and device.has("integer_dot"))
