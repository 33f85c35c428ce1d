"""A partitioned graph on this machine's Vulkan device, each kernel compared with the reference on its own inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from support.execution import compare
from support.vulkan_runner import run_shader
from tvm_flow.backends.vulkan.shader import CannotTranslate, Shader, packed_product, shader
from tvm_flow.graph.constants import evaluate
from tvm_flow.graph.program import Program
from tvm_flow.numerics.reference import execute
from tvm_flow.target.vulkan_device import VulkanDevice

Array = np.ndarray[Any, Any]


@dataclass
class Ran:
    """Every tensor, the shader of every kernel, why others have none, and how many codes differ near a tie."""

    tensors: dict[str, Array]
    shaders: dict[str, Shader] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    near_ties: int = 0


def run_program(program: Program, feeds: dict[str, Array], device: VulkanDevice) -> Ran:
    """Raises AssertionError where a kernel leaves the reference's bounds; refused ones are the reference's."""
    constants = program.graph.constants
    ran = Ran(feeds | {name: evaluate(constant, program.graph.given) for name, constant in constants.items()})
    for call in program.calls:
        function, inputs = program.kernels[call.kernel], [ran.tensors[name] for name in call.args]
        product = packed_product(function, tuple(name in constants for name in call.args))
        if call.kernel not in ran.shaders | ran.refused:
            try:
                ran.shaders[call.kernel] = shader(call.kernel, function, device, product=product)
            except CannotTranslate as error:
                ran.refused[call.kernel] = str(error)
        expected = execute(function, inputs)
        if call.kernel in ran.refused:
            ran.tensors[call.output] = np.asarray(getattr(expected, "value", expected))
            ran.tensors[call.output] = ran.tensors[call.output].astype(program.tensors[call.output].dtype)
            continue
        given = list(inputs)
        if product is not None:
            given[1] = product.layout.pack(inputs[1])
        made, shape = ran.shaders[call.kernel], program.tensors[call.output].shape
        for form in (made, made.fallback) if made.fallback else (made,):
            got, _ = run_shader(form, given, shape)
            ran.near_ties += compare(expected, got, call.kernel)
        ran.tensors[call.output] = got
    return ran
