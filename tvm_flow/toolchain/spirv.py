"""GLSL to SPIR-V by glslang, made small, and held to the rules of a Vulkan version: the one place that runs them."""

from __future__ import annotations

import logging
import shlex
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path

from tvm_flow.errors import BuildError
from tvm_flow.scratch import temporary_folder

GLSLANG = ("glslangValidator", "glslang")
OPTIMIZER, VALIDATOR = "spirv-opt", "spirv-val"
SMALLER = (
    *("--eliminate-dead-functions", "--eliminate-local-single-block", "--eliminate-local-single-store"),
    *("--ssa-rewrite", "--eliminate-dead-code-aggressive", "--redundancy-elimination", "--merge-blocks"),
    "--eliminate-dead-code-aggressive",
)
"""Passes that leave functions be: -Os writes a division out wherever one is, which costs more than it saves."""
_CAPABILITY = 17
_NAMES = {
    **{1: "Shader", 9: "Float16", 11: "Int64", 22: "Int16", 39: "Int8", 61: "GroupNonUniform"},
    **{63: "GroupNonUniformArithmetic", 4433: "StorageBuffer16BitAccess", 4448: "StorageBuffer8BitAccess"},
    **{4464: "DenormPreserve", 4466: "SignedZeroInfNanPreserve", 4467: "RoundingModeRTE"},
    **{6016: "DotProductInputAll", 6017: "DotProductInput4x8Bit", 6018: "DotProductInput4x8BitPacked"},
    **{6019: "DotProduct"},
}
"""Capabilities by number, of those that shaders here could come to declare."""
_log = logging.getLogger(__name__)


@cache
def assemble(name: str, glsl: str, environment: str) -> bytes:
    """The validated SPIR-V of the compute shader ``glsl``; ``environment`` is a Vulkan version as "vulkan1.1".

    Made small, which drivers compile faster: nothing of that contracts what the shader calls ``precise``.

    Asked for twice, when a kernel is offered and when it is compiled, it is made once.

    Raises BuildError naming the tool that is missing, or the shader with the first words of the tool that refused it.
    """
    glslang = next((path for tool in GLSLANG if (path := shutil.which(tool))), GLSLANG[0])
    missing = [tool for tool in (glslang, OPTIMIZER, VALIDATOR) if shutil.which(tool) is None]
    if missing:
        raise BuildError(
            f"shader {name}: expected {glslang}, {OPTIMIZER} and {VALIDATOR} on the path, found no "
            f"{' and no '.join(missing)}; apt-get install glslang-tools spirv-tools"
        )
    with temporary_folder("shader") as folder:
        plain, module = (str(folder / file) for file in ("plain.spv", "shader.spv"))
        _run([glslang, "-V", "-g0", "--target-env", environment, "--stdin", "-S", "comp", "-o", plain], name, glsl)
        _run([OPTIMIZER, *SMALLER, f"--target-env={environment}", plain, "-o", module], name)
        _run([VALIDATOR, "--target-env", environment, module], name)
        return Path(module).read_bytes()


def capabilities_of(spirv: bytes) -> tuple[str, ...]:
    """What a module declares that it needs, in order; numbers of which this package knows no name stay numbers."""
    words = struct.unpack(f"<{len(spirv) // 4}I", spirv)
    found, at = [], 5
    while at < len(words) and words[at] & 0xFFFF == _CAPABILITY:
        found.append(_NAMES.get(words[at + 1], str(words[at + 1])))
        at += words[at] >> 16
    return tuple(found)


def _run(command: list[str], name: str, text: str | None = None) -> None:
    _log.debug("%s", shlex.join(command))
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = (done.stdout + done.stderr).strip()
        error = BuildError(
            f"shader {name}: expected {Path(command[0]).name} to accept it, got exit code {done.returncode}: "
            f"{words[:2000]}; report this kernel"
        )
        error.add_note(text or words)
        raise error
