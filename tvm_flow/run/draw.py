"""The noise that a sampler's steps draw, from Python or from the runtime's own generator."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from tvm_flow.errors import RuntimeFailure
from tvm_flow.pack.contents import Float32
from tvm_flow.run import native

Draw = Callable[[int], Float32]
"""Step -> unit Gaussian noise float32 [latent_shape]; asked once for each step that draws, before it runs."""


def draw_callback(draw: Draw | None, shape: tuple[int, ...], guard: Callable[[Callable[[], object]], int]) -> Any:
    """``draw`` for `tvm_flow_request`; a null pointer when it is None. ``guard`` runs it and keeps what it raises."""
    if draw is None:
        return native.DRAW()

    def fill(step: int, out: Any, count: int) -> None:
        noise = draw(step)
        if noise.dtype != np.float32 or noise.shape != shape:
            raise RuntimeFailure(
                f"noise of step {step}: expected float32 {shape}, got {noise.dtype} {noise.shape}; shape it like z"
            )
        np.ctypeslib.as_array(out, (count,))[:] = noise.ravel()

    def callback(_user: object, step: int, out: Any, count: int) -> int:
        return guard(lambda: fill(step, out, count))

    return native.DRAW(callback)


def gaussian(seed: int, stream: int, shape: tuple[int, ...]) -> Float32:
    """`tvm_flow_gaussian` of the C runtime; `tvm_flow.sampler.seeded_noise` computes the same bits."""
    out = np.empty(shape, np.float32)
    native.load_runtime().tvm_flow_gaussian(ctypes.c_uint64(seed), ctypes.c_uint64(stream), out.ctypes.data, out.size)
    return out
