"""Runs shaders on this machine's Vulkan device: a small C library around libvulkan, with the validation layer on."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from support.process_folders import of_this_process
from support.validated_vulkan import validated
from tvm_flow.backends.vulkan.places import BINDINGS
from tvm_flow.backends.vulkan.shader import Shader
from tvm_flow.target.vulkan_device import VulkanDevice

Array = np.ndarray[Any, Any]
LAVAPIPE = VulkanDevice(
    version="1.3",
    vendor="llvmpipe",
    features=("storage_8", "int8", "integer_dot", "rte_float32", "preserve_float32"),
    shared_bytes=32768,
    invocations=1024,
)
"""What Debian's lavapipe reports, as far as shaders depend on it."""
LEAST = VulkanDevice()
"""What every device has."""
_PAD = 64
_GUARD = 0x5A


class _Job(ctypes.Structure):
    _fields_ = (
        ("spirv", ctypes.c_void_p),
        ("spirv_bytes", ctypes.c_size_t),
        ("push", ctypes.c_void_p),
        ("num_push", ctypes.c_uint32),
        ("constants", ctypes.c_void_p),
        ("num_constants", ctypes.c_uint32),
        ("spaces", ctypes.c_void_p * 4),
        ("bytes", ctypes.c_size_t * 4),
        ("grid", ctypes.c_uint32 * 3),
        ("repeats", ctypes.c_uint32),
        ("seconds", ctypes.c_double),
    )


@cache
def runner() -> ctypes.CDLL:
    """The library, its device open; raises RuntimeError saying what is missing."""
    source = Path(__file__).with_suffix(".c")
    library = of_this_process("runner") / "runner.so"
    flags = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library)]
    done = subprocess.run(["gcc", *flags, str(source), "-lvulkan"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gcc: {done.stderr[:400]}; apt-get install libvulkan-dev")
    loaded = ctypes.CDLL(str(library))
    loaded.runner_message.restype = loaded.runner_device.restype = ctypes.c_char_p
    with validated():  # the layers read their settings when a process first has them
        failed = loaded.runner_open(1)
    if failed:
        raise RuntimeError(f"Vulkan: {loaded.runner_message().decode()}; apt-get install mesa-vulkan-drivers")
    return loaded


def missing() -> str:
    """Why shaders cannot be run here; "" where they can."""
    try:
        runner()
    except (RuntimeError, OSError) as error:
        return str(error)
    return ""


def run_shader(shader: Shader, inputs: list[Array], shape: tuple[int, ...], repeats: int = 1) -> tuple[Array, float]:
    """The output of ``shape`` for ``inputs``, and the seconds of a dispatch.

    Arguments lie apart in their spaces; what lies between and after them must not be written, and is checked.
    """
    library = runner()
    spaces, offsets = {space: bytearray(b"\x5a" * _PAD) for space in BINDINGS}, []
    given = [*inputs, np.full(shape, 0, shader.arguments[-1].dtype)]
    for argument, array in zip(shader.arguments, given, strict=True):
        assert array.dtype == argument.dtype and array.nbytes == argument.bytes, (array.dtype, array.shape, argument)
        space = spaces[argument.space]
        offsets.append(len(space) // 4)
        space += np.ascontiguousarray(array).tobytes()
        space += bytes([_GUARD]) * (_PAD + -len(space) % _PAD)
    memory = {name: np.frombuffer(space, np.uint8) for name, space in spaces.items()}
    before = {name: bytes(array) for name, array in memory.items()}
    _dispatch(library, shader, offsets, memory, repeats)
    start, output = 4 * offsets[-1], given[-1]
    touched = -(-output.nbytes // 4) * 4
    for name, array in memory.items():
        after = bytes(array)
        if name == shader.arguments[-1].space:
            after = after[:start] + before[name][start : start + touched] + after[start + touched :]
        assert after == before[name], f"{shader.name}: wrote outside of its output in {name}"
    result = memory[shader.arguments[-1].space][start : start + output.nbytes]
    return result.view(output.dtype).reshape(shape).copy(), _SECONDS[0]


_SECONDS = [0.0]


def _dispatch(library: ctypes.CDLL, shader: Shader, offsets: list[int], memory: dict[str, Array], repeats: int) -> None:
    spirv = np.frombuffer(shader.spirv, np.uint32)
    push, constants = np.array(offsets, np.uint32), np.array([*shader.specialization, 0], np.uint32)
    arrays = [memory[name] for name in BINDINGS]
    job = _Job(
        spirv.ctypes.data,
        spirv.nbytes,
        push.ctypes.data,
        len(push),
        constants.ctypes.data,
        len(shader.specialization),
        (ctypes.c_void_p * 4)(*(array.ctypes.data for array in arrays)),
        (ctypes.c_size_t * 4)(*(array.nbytes for array in arrays)),
        (ctypes.c_uint32 * 3)(*shader.grid),
        repeats,
    )
    failed = library.runner_run(ctypes.byref(job))
    complaint = library.runner_message().decode()
    assert not failed, f"{shader.name}: {complaint}"
    assert not library.runner_complaints(), f"{shader.name}: {complaint}"
    _SECONDS[0] = job.seconds
