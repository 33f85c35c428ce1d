"""Small plans for the Vulkan device, of shaders written by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from tvm_flow.backends.vulkan.payload import Access, Argument, Dispatch, Pipeline, ShaderKernel, encode_payload
from tvm_flow.bench.driven import ARENA, STEP, WEIGHTS, Driven, Plan, Tensor

SHADERS = Path(__file__).parents[1] / "backends" / "vulkan" / "shaders"
R, W = Access.READ, Access.WRITE


def shader(name: str, *flags: str, folder: Path) -> bytes:
    return spirv(SHADERS / f"{name}.comp", folder, *flags)


def affine_plan(folder: Path) -> Plan:
    """y = x * w + s, z = y * v + s, in one segment; the weights that no tensor names are not a device's."""
    pipeline = Pipeline(shader("affine", folder=folder), (8, 1, 1), constants=((0, 8), (1, 13)))
    args = (Argument(0, 0, R), Argument(1, 1, R), Argument(2, 2, R), Argument(3, 0, W))
    kernel = ShaderKernel((Dispatch(pipeline, (2, 1, 1), args),))
    weights = np.arange(512, dtype=np.int32)
    return Plan(
        tensors=[
            *(Tensor(ARENA, 64 * i, (13,), "int32") for i in range(3)),
            *(Tensor(WEIGHTS, 1024, (13,), "int32"), Tensor(WEIGHTS, 192, (13,), "int32")),
            Tensor(STEP, 64, (), "int32"),
        ],
        calls=[(0, 3, 5, 1), (1, 4, 5, 2)],
        segments=[2],
        payload=encode_payload({"k": kernel}, ["k", "k"]),
        weights=weights.tobytes(),
        step_bytes=128,
    )


def constants(values: int) -> bytes:
    return np.array([0] * 16 + [values] + [0] * 15, np.int32).tobytes()


def product_plan(folder: Path) -> Plan:
    """The dot products of eight words, and a fallback."""
    plain = Pipeline(shader("product", "-DPLAIN", folder=folder), (8, 1, 1))
    pipeline = Pipeline(shader("product", folder=folder), (8, 1, 1), fallback=plain)
    args = (Argument(0, 0, R), Argument(1, 0, R), Argument(2, 0, W))
    kernel = ShaderKernel((Dispatch(pipeline, (1, 1, 1), args),))
    tensors = [Tensor(ARENA, 64 * i, (32,), "int8") for i in range(2)] + [Tensor(ARENA, 128, (8,), "int32")]
    return Plan(tensors, [(0, 1, 2)], [1], encode_payload({"k": kernel}, ["k"]))


def multiplied(driven: Driven) -> bool:
    a, b = np.random.default_rng(7).integers(-128, 128, (2, 32))
    a[:4] = b[:4] = -128
    driven.write(0, a)
    driven.write(1, b)
    driven.run()
    return bool((driven.read(2) == (a * b).reshape(8, 4).sum(1)).all())


def spirv(source: Path, folder: Path, *flags: str) -> bytes:
    """The module that glslang makes of a GLSL file."""
    output = folder / f"{source.stem}.spv"
    command = ["glslangValidator", "--target-env", "vulkan1.1", "-V", *flags, "-o", str(output), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return output.read_bytes()
