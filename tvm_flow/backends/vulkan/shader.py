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

from collections.abc import Mapping
from dataclasses import dataclass

from tvm_flow.errors import BuildError
from tvm_flow.graph.types import Relax
from tvm_flow.target.vulkan_device import VulkanDevice

BINDINGS: Mapping[str, int] = {"arena": 0, "weights": 1, "step": 2, "prompt": 3}
"""Binding of each space in descriptor set 0."""
ENTRY = "main"


class CannotTranslate(BuildError):
    """A kernel that this backend does not compile; the message names the construct."""


@dataclass(frozen=True)
class Argument:
    """A tensor of a kernel: ``bytes`` of elements ``dtype`` in ``space``; the output alone is written."""

    dtype: str
    bytes: int
    space: str
    written: bool


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
    """What it is, for reports: "elements", "rows", "attention", "int8 product"."""
    specialization: tuple[int, ...] = ()
    """Values of the specialization constants 0, 1, ... as 32-bit words, to be given when the pipeline is made."""


def shader(name: str, function: Relax, device: VulkanDevice, spaces: tuple[str, ...] = ()) -> Shader:
    """``function`` for ``device``, its arguments and then its output in ``spaces`` (all in the arena when not given).

    Raises CannotTranslate naming the TIR construct, type or limit that stands against it, BuildError when glslang or
    spirv-val refuse what was printed.
    """
    raise CannotTranslate(f"kernel {name}: nothing is compiled yet for {device.vendor}, {function} in {spaces}")
