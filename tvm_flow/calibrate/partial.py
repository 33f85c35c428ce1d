"""What is finished of a prompt whose calibration was interrupted: a hidden file beside the ranges.

One safetensors file, whole or absent:

    <layer>.min, <layer>.max     float32 [done, 2]       as in a ranges file, of the first ``done`` steps
    <layer>.absmax               float32 [done, 2, K]
    latent                       float32 [1, C, T, H, W] what these steps made of the prompt's noise

and in the header's metadata, under ``tvm_flow``, whose they are: format, model, sampler, latent, prompt, the sha256 of
its embedding, and that of all of it (`tvm_flow.calibrate.seal`). Going on from them gives the bits that a run without
interruption gives; a file that is of something else, or damaged, is passed over, and written again.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tvm_flow.artifact import atomic_path
from tvm_flow.calibrate.prompts import CalibrationPrompt
from tvm_flow.calibrate.ranges import Ranges
from tvm_flow.calibrate.record import Recorder
from tvm_flow.calibrate.seal import sealed

FORMAT = 1
LATENT = "latent"
SECONDS = 20.0
"""Between two writes at least."""
SHARE = 50
"""And so many times what the last one took: writing costs two percent at most."""


class Partial:
    """The finished steps of the prompt that runs, for an output that wants ``wanted``'s model, sampler and latent."""

    def __init__(self, output: Path, wanted: Ranges) -> None:
        self.path = output.with_name(f".{output.name}.partial")
        self.wanted = wanted
        self._identity: dict[str, Any] = {}
        self._state: tuple[Recorder, int, Tensor] | None = None
        self._written, self._cost = time.monotonic(), 0.0

    def begin(
        self, recorder: Recorder, prompt: CalibrationPrompt, caption: tuple[Tensor, Tensor], noise: Tensor
    ) -> tuple[int, Tensor]:
        """Steps that an earlier run finished of ``prompt``, told to ``recorder``, and their latent; or 0 and ``noise``.

        ``caption`` is tokens and mask; both belong to what the steps depend on.
        """
        digest = hashlib.sha256(b"".join(part.contiguous().numpy().tobytes() for part in caption)).hexdigest()
        self._identity = {
            "format": FORMAT,
            "model_sha256": self.wanted.model_sha256,
            "sampler": self.wanted.sampler.to_dict(),
            "latent": list(self.wanted.latent),
            "prompt": asdict(prompt),
            "caption": digest,
        }
        found = self._read(recorder, noise)
        return found if found is not None else (0, noise)

    def take(self, recorder: Recorder, step: int, z: Tensor) -> None:
        """``step`` steps are finished and have made ``z``; written when the last time is long enough ago."""
        self._state = (recorder, step, z)
        if time.monotonic() - self._written >= max(SECONDS, SHARE * self._cost):
            self.write()

    def write(self) -> int:
        """Keep what is finished; returns how many steps that are."""
        if self._state is None or self._state[1] == 0:
            return 0
        recorder, step, z = self._state
        started = time.monotonic()
        tensors = {name: rows.contiguous() for name, rows in {**recorder.rows(step), LATENT: z}.items()}
        metadata = sealed(self._identity, {name: rows.numpy() for name, rows in tensors.items()})
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, metadata)
        self._written = time.monotonic()
        self._cost = self._written - started
        return step

    def remove(self) -> None:
        """The prompt is done: its ranges are in the output."""
        self._state = None
        self.path.unlink(missing_ok=True)

    def _read(self, recorder: Recorder, noise: Tensor) -> tuple[int, Tensor] | None:
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata != sealed(self._identity, {name: rows.numpy() for name, rows in tensors.items()}):
                return None
        except (OSError, SafetensorError, TypeError, ValueError):
            return None
        latent = tensors.pop(LATENT, None)
        done = len(next(iter(tensors.values()), ()))
        expected = {name: (rows.shape, rows.dtype) for name, rows in recorder.rows(done).items()}
        fits = expected == {name: (rows.shape, rows.dtype) for name, rows in tensors.items()}
        if latent is None or latent.shape != noise.shape or latent.dtype != noise.dtype or not fits:
            return None
        if not all(bool(torch.isfinite(part).all()) for part in [latent, *tensors.values()]):
            return None
        recorder.restore(tensors)
        return done, latent
