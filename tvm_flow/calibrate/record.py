"""Hooks that watch the inputs of the quantized linears while the float model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tvm_flow.calibrate.layers import layer_names
from tvm_flow.calibrate.ranges import LayerRanges
from tvm_flow.errors import CalibrationError
from tvm_flow.model import AnyModel


class Recorder:
    """Ranges of every quantized linear's input, per step and branch, over the forwards it has seen.

    The model must run both branches of one prompt in one batch, cond first, as ``sampler.model_outputs``
    does; then the leading axis of every linear's input falls into two equal halves. ``step`` is set before
    each forward.
    """

    def __init__(self, model: AnyModel, steps: int, mask: Tensor) -> None:
        """``mask`` bool [L]: the caption tokens that are no padding; only they count for kv_linear."""
        self.step = 0
        self._mask = mask.bool()
        self._absmax: dict[str, Tensor] = {}
        self._low: dict[str, Tensor] = {}
        self._high: dict[str, Tensor] = {}
        for name in layer_names(model.config):
            channels = _linear(model, name).in_features
            self._absmax[name] = torch.zeros(steps, 2, channels)
            self._low[name] = torch.full((steps, 2), torch.inf)
            self._high[name] = torch.full((steps, 2), -torch.inf)

    def see(self, name: str, x: Tensor) -> None:
        """Take ``x`` [2 * n, ..., K], the input of ``name`` at ``step``; raises CalibrationError for NaN."""
        halves = x.detach().unflatten(0, (2, -1))  # type: ignore[no-untyped-call]
        if name.endswith("cross_attn.kv_linear"):
            halves = halves[:, :, self._mask]
        low, high = halves.flatten(1, -2).float().aminmax(dim=1)
        if not (low.isfinite().all() and high.isfinite().all()):
            raise CalibrationError(
                f"{name}: expected finite inputs at step {self.step}, got NaN or infinity; check the float model"
            )
        seen = self._absmax[name][self.step]
        self._absmax[name][self.step] = torch.maximum(seen, torch.maximum(-low, high))
        self._low[name][self.step] = torch.minimum(self._low[name][self.step], low.amin(-1))
        self._high[name][self.step] = torch.maximum(self._high[name][self.step], high.amax(-1))

    def rows(self, steps: int) -> dict[str, Tensor]:
        """What was seen in the first ``steps`` steps: <layer>.min, .max [steps, 2] and .absmax [steps, 2, K]."""
        parts = {"min": self._low, "max": self._high, "absmax": self._absmax}
        return {f"{name}.{part}": seen[name][:steps] for part, seen in parts.items() for name in seen}

    def restore(self, rows: Mapping[str, Tensor]) -> None:
        """Take ``rows`` of another recorder of this model as seen."""
        for name, mine in self.rows(len(next(iter(rows.values())))).items():
            mine.copy_(rows[name])

    def ranges(self) -> dict[str, LayerRanges]:
        """What was seen; raises CalibrationError when a step was not run."""
        if not all(bool(low.isfinite().all()) for low in self._low.values()):
            raise CalibrationError("ranges: expected every step to have run, got an unfinished trajectory")
        return {
            name: LayerRanges(_numpy(self._low[name]), _numpy(self._high[name]), _numpy(self._absmax[name]))
            for name in self._absmax
        }


def ranges_bytes(model: AnyModel, steps: int) -> int:
    """About what ranges of ``steps`` steps take, in memory and in a file: the channels of both branches."""
    return 4 * 2 * steps * sum(_linear(model, name).in_features for name in layer_names(model.config))


@contextmanager
def recording(model: AnyModel, recorder: Recorder) -> Iterator[None]:
    """Let ``recorder`` see every forward of ``model`` inside the block; the hooks are gone after it."""
    handles = [
        _linear(model, name).register_forward_pre_hook(_hook(recorder, name)) for name in layer_names(model.config)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(recorder: Recorder, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        recorder.see(name, inputs[0])

    return hook


def _linear(model: AnyModel, name: str) -> nn.Linear:
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear


def _numpy(tensor: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    values: np.ndarray[Any, np.dtype[np.float32]] = tensor.numpy()
    return values
