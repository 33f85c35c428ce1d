"""Vulkan as a backend: kernels that become compute shaders, and the device of the runtime that runs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm_flow.backends.base import Artifacts, CompileJob, Kernel, Offer
from tvm_flow.backends.packed import Refusal
from tvm_flow.backends.vulkan.payload import Access, Argument, Dispatch, Pipeline, ShaderKernel, encode_payload
from tvm_flow.backends.vulkan.shader import CannotTranslate, Shader, packed_product, shader
from tvm_flow.errors import BuildError
from tvm_flow.target.spec import TargetSpec
from tvm_flow.target.vulkan_device import VulkanDevice
from tvm_flow.toolchain.runtime_library import build_device
from tvm_flow.toolchain.zig import zig_cc

VULKAN = "vulkan"
RUNTIME_PART = Path(__file__).with_name("runtime")
"""The device in C."""
_ON_A_LINE = 24


@dataclass(frozen=True)
class VulkanBackend:
    """See the module."""

    @property
    def name(self) -> str:
        """See `tvm_flow.backends.base.Backend`."""
        return VULKAN

    @property
    def version(self) -> str:
        """See `tvm_flow.backends.base.Backend`."""
        return ""

    def offers(self, kernel: Kernel, target: TargetSpec) -> Offer | Refusal:
        """Whatever has a shader within the target's limits; the weights of tiled products are packed for it."""
        if target.vulkan is None:
            return Refusal(f"target {target.name} says nothing of a Vulkan device", "add its section vulkan")
        product = packed_product(kernel.function, kernel.constant)
        try:
            made = shader(kernel.name, kernel.function, target.vulkan, product=product)
        except CannotTranslate as error:
            return Refusal(str(error), "it runs on the next backend of the target")
        return Offer(f"shader, {made.schedule}", made, {} if product is None else {1: product.layout})

    def compile(self, job: CompileJob, folder: Path) -> Artifacts:
        """One payload for all segments, in one object."""
        calls: list[str | None] = [None] * len(job.packed.program.calls)
        kernels: dict[str, ShaderKernel] = {}
        for segment in job.segments.values():
            for position in segment.calls:
                kernel, spaces = job.packed.program.calls[position].kernel, job.spaces[position]
                calls[position] = name = f"{kernel} {' '.join(spaces)}"
                if name not in kernels:
                    kernels[name] = shader_kernel(_in_spaces(job, kernel, spaces))
        payload, symbol = encode_payload(kernels, calls), f"{job.prefix}vulkan"
        output = folder / f"{symbol}.o"
        zig_cc(("-c", "-x", "c", "-o", str(output), "-"), symbol, job.target.zig_triple, source=_as_c(symbol, payload))
        return Artifacts((output,), payloads=dict.fromkeys(job.segments, (symbol, len(payload))))

    def runtime_library(self) -> Path:
        """See `tvm_flow.backends.base.Backend`."""
        return build_device(VULKAN, RUNTIME_PART)

    def board_library(self, zig_triple: str) -> Path:
        """See `tvm_flow.backends.base.BoardPart`."""
        return build_device(VULKAN, RUNTIME_PART, zig_triple)

    def board_headers(self) -> tuple[Path, ...]:
        """See `tvm_flow.backends.base.BoardPart`."""
        return (RUNTIME_PART / "tvm_flow_vulkan.h",)


def shader_kernel(made: Shader) -> ShaderKernel:
    """The one dispatch of a shader, as a payload has it."""
    args = tuple(
        Argument(position, argument.binding, Access.WRITE if argument.written else Access.READ)
        for position, argument in enumerate(made.arguments)
    )
    return ShaderKernel((Dispatch(_pipeline(made), made.grid, args),))


def _pipeline(made: Shader) -> Pipeline:
    fallback = None if made.fallback is None else _pipeline(made.fallback)
    return Pipeline(made.spirv, made.local, made.shared_bytes, tuple(enumerate(made.specialization)), fallback)


def _in_spaces(job: CompileJob, kernel: str, spaces: tuple[str, ...]) -> Shader:
    """The shader that was offered, or another where its arguments lie elsewhere than it took for granted."""
    placement, function = job.packed.placements[kernel], job.packed.program.kernels[kernel]
    offered = placement.choice
    if isinstance(offered, Shader) and tuple(argument.space for argument in offered.arguments) == spaces:
        return offered
    product = packed_product(function, (True,) * len(function.params)) if placement.layouts else None
    return shader(kernel, function, _device(job.target), spaces, product)


def _device(target: TargetSpec) -> VulkanDevice:
    if target.vulkan is None:
        raise BuildError(f"target {target.name}: expected a section vulkan, got none; add it")
    return target.vulkan


def _as_c(symbol: str, payload: bytes) -> str:
    rows = (payload[at : at + _ON_A_LINE] for at in range(0, len(payload), _ON_A_LINE))
    values = ",\n".join(",".join(map(str, row)) for row in rows)
    return f"extern const unsigned char {symbol}[];\n_Alignas(64) const unsigned char {symbol}[] = {{\n{values}}};\n"
