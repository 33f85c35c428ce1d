"""One kernel as one compute shader.

    shader(name, function, device, spaces) -> Shader

**Memory.** All tensors of one space of the device lie in one storage buffer of 32-bit words: descriptor set 0, binding
`BINDINGS` [space] (arena 0, weights 1, step 2, prompt 3). The set's layout always has these four; a shader declares
those that its arguments lie in, and none of them is written unless an argument there is. Argument i of the kernel, its
output last, begins at word ``push constant i`` of its space's buffer: one uint32 for each argument, in order, byte
4 i of the push constants. So one pipeline serves every step, branch and call whose arguments lie in the same spaces;
scales, zero points and tables are arguments too and never in the code. A tensor starts at a multiple of 4 bytes (the
plan aligns to 64), and the bytes up to the next word's end are its own: they are written, with zero.

**Windows.** A descriptor may start anywhere the device allows (minStorageBufferOffsetAlignment) and offsets count from
there: a space larger than maxStorageBufferRange is bound as several windows. One argument has to fit one: `shader`
refuses a larger one.

**Dispatch.** ``vkCmdDispatch(*grid)``, one for a call. A shader reads what calls before it wrote, so a barrier stands
between dependent calls (compute shader write -> read); within one no memory but its own is read and written.

**Numbers.** Integers are exact. Every float operation is rounded once, to nearest even where the device lets a shader
ask for that, none is contracted; division and square root are correctly rounded by integer arithmetic, exp is
`tvm_flow.lower.exponential`: so results are within the bounds of `tvm_flow.numerics` with nothing added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod

from tvm_flow.backends.vulkan.attention import as_streaming
from tvm_flow.backends.vulkan.attention_shader import print_attention
from tvm_flow.backends.vulkan.expressions import CannotPrint
from tvm_flow.backends.vulkan.float_product import as_float_product, print_float_product
from tvm_flow.backends.vulkan.lowering import lowered
from tvm_flow.backends.vulkan.places import BINDINGS, ArgumentPlace, bits_of
from tvm_flow.backends.vulkan.printer import Printed, arguments_of, grid_of, print_shader
from tvm_flow.backends.vulkan.product import VulkanProduct, packed_product, print_product
from tvm_flow.backends.vulkan.schedules import CannotSchedule, schedule_shader
from tvm_flow.errors import BuildError
from tvm_flow.graph.types import PrimFunc, Relax
from tvm_flow.lower.legalize import to_prim_func
from tvm_flow.target.vulkan_device import VulkanDevice
from tvm_flow.toolchain.spirv import assemble, capabilities_of

__all__ = [
    "BINDINGS",
    "ENTRY",
    "Argument",
    "CannotTranslate",
    "Shader",
    "VulkanProduct",
    "packed_product",
    "shader",
    "shader_of_tir",
]

ENTRY = "main"
MODES: Mapping[str, tuple[int, int]] = {"rte_float32": (4467, 4462), "preserve_float32": (4466, 4461)}
"""Capability and execution mode of a feature, by their numbers in SPIR-V."""


class CannotTranslate(BuildError):
    """A kernel that this backend does not compile; the message names the construct."""


@dataclass(frozen=True)
class Argument:
    """A tensor of a kernel: ``bytes`` of elements ``dtype`` in ``space``; the output alone is written."""

    dtype: str
    bytes: int
    space: str
    written: bool

    @property
    def binding(self) -> int:
        """Of descriptor set 0."""
        return BINDINGS[self.space]


@dataclass(frozen=True)
class Shader:
    """A kernel as code; see the module for how it is run."""

    name: str
    glsl: str
    spirv: bytes
    local: tuple[int, int, int]
    """Invocations of a workgroup; they stand in the code."""
    grid: tuple[int, int, int]
    """Workgroups of the dispatch."""
    arguments: tuple[Argument, ...]
    capabilities: tuple[str, ...]
    schedule: str
    """What it is, for reports: a kind of `schedules`, or "int8 product", "float product", "convolution", "streaming
    attention"."""
    shared_bytes: int = 0
    specialization: tuple[int, ...] = ()
    """Values of the specialization constants 0, 1, ... as 32-bit words, to be given when the pipeline is made."""
    fallback: Shader | None = None
    """The same without integer dot products, where this has them: same arguments, grid and results."""


def shader(
    name: str,
    function: Relax,
    device: VulkanDevice,
    spaces: tuple[str, ...] = (),
    product: VulkanProduct | None = None,
) -> Shader:
    """``function`` for ``device``, its arguments and then its output in ``spaces`` (all in the arena when not given).

    With ``product``, which `packed_product` makes, argument 1 are weights packed as its layout says. Raises
    CannotTranslate naming the TIR construct, type or limit that stands against it, BuildError when glslang or spirv-val
    refuse what was printed.
    """
    tir = to_prim_func(function, name)
    with _translated(name):
        arguments = arguments_of(tir, spaces or ("arena",) * len(tir.params))
        if product is not None:
            packed = replace(arguments[1], elements=prod(product.layout.shape((product.k, product.n))))
            arguments = (arguments[0], packed, *arguments[2:])
        _check_arguments(arguments, device)
        if product is not None:
            kind, forms = "int8 product", [False, True] if device.has("integer_dot") else [False]
            printed = [print_product(product, tir, arguments, device, dot) for dot in forms]
        elif (attention := as_streaming(function, device)) is not None:
            kind, printed = "streaming attention", [print_attention(attention, arguments)]
        elif (floats := as_float_product(function, device)) is not None:
            kind, printed = floats.kind, [print_float_product(floats, arguments)]
        else:
            kind, printed = _scheduled(tir, arguments, device)
    plain, *with_dot = (_assembled(_Kernel(name, form, arguments, kind), device) for form in printed)
    return replace(with_dot[0], fallback=plain) if with_dot else plain


def shader_of_tir(name: str, function: PrimFunc, device: VulkanDevice, spaces: tuple[str, ...] = ()) -> Shader:
    """The same for an unscheduled TIR function."""
    with _translated(name):
        arguments = arguments_of(function, spaces or ("arena",) * len(function.params))
        _check_arguments(arguments, device)
        kind, (printed,) = _scheduled(function, arguments, device)
    return _assembled(_Kernel(name, printed, arguments, kind), device)


def _scheduled(
    function: PrimFunc, arguments: tuple[ArgumentPlace, ...], device: VulkanDevice
) -> tuple[str, list[Printed]]:
    scheduled = schedule_shader(function, device)
    return scheduled.kind, [print_shader(lowered(scheduled.function), arguments)]


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (CannotSchedule, CannotPrint) as error:
        raise CannotTranslate(f"kernel {name}: no Vulkan shader for {error}") from error


@dataclass(frozen=True)
class _Kernel:
    """What is assembled."""

    name: str
    printed: Printed
    arguments: tuple[ArgumentPlace, ...]
    schedule: str


def preamble(device: VulkanDevice) -> str:
    """Version, and the execution modes of float arithmetic that ``device`` has."""
    modes = [MODES[feature] for feature in MODES if device.has(feature)]
    extension = "#extension GL_EXT_spirv_intrinsics : enable\n"
    lines = (
        f'spirv_execution_mode(extensions = ["SPV_KHR_float_controls"], capabilities = [{capability}], {mode}, 32);\n'
        for capability, mode in modes
    )
    return f"#version 450\n{extension}{''.join(lines)}"


def _check_arguments(arguments: tuple[ArgumentPlace, ...], device: VulkanDevice) -> None:
    for place in arguments:
        if _bytes(place) > device.storage_bytes:
            raise CannotPrint(
                f"argument {place.name} of {_bytes(place)} bytes, which one descriptor of {device.storage_bytes} "
                "cannot hold"
            )
    if 4 * len(arguments) > device.push_bytes:
        raise CannotPrint(
            f"{len(arguments)} arguments, of which {device.push_bytes} bytes of push constants hold fewer"
        )


def _check_limits(name: str, printed: Printed, device: VulkanDevice) -> None:
    for what, needed, limit in (
        ("bytes of shared memory", printed.shared_bytes, device.shared_bytes),
        ("invocations of a workgroup", printed.local, device.invocations),
    ):
        if needed > limit:
            raise CannotTranslate(f"kernel {name}: no Vulkan shader with {needed} {what}, the device has {limit}")


def _assembled(kernel: _Kernel, device: VulkanDevice) -> Shader:
    name, printed, arguments = kernel.name, kernel.printed, kernel.arguments
    _check_limits(name, printed, device)
    glsl = preamble(device) + printed.glsl
    spirv = assemble(name, glsl, device.environment)
    capabilities = capabilities_of(spirv)
    beyond = sorted(set(capabilities) - device.capabilities)
    if beyond:
        raise BuildError(
            f"shader {name}: expected capabilities among {sorted(device.capabilities)}, which the target's features "
            f"allow, got {beyond} too; report this kernel"
        )
    return Shader(
        name=name,
        glsl=glsl,
        spirv=spirv,
        local=(printed.local, 1, 1),
        grid=grid_of(printed.groups),
        arguments=tuple(Argument(a.dtype, _bytes(a), a.space, a is arguments[-1]) for a in arguments),
        capabilities=capabilities,
        schedule=kernel.schedule,
        shared_bytes=printed.shared_bytes,
        specialization=printed.specialization,
    )


def _bytes(place: ArgumentPlace) -> int:
    return place.elements * bits_of(place.dtype) // 8
