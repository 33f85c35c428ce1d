"""The check of a decoding, chunk by chunk and call by call: see `tvm_flow.check.follow`.

The first chunk's frames are also held against onnx's own evaluator, which shares no code with the import.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tvm_flow.check.calls import Array, ExactnessReport, require_same_bits
from tvm_flow.check.follow import FollowedRuns, Run
from tvm_flow.check.onnx_evaluator import evaluate_graph
from tvm_flow.check.parts import Part
from tvm_flow.check.sampling import CallCheck
from tvm_flow.errors import BitExactError
from tvm_flow.export.decoder_file import ExportedDecoder
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary

MOST_OFF = 1e-3
"""A frame's distance from onnx's evaluation, of a range of 1: a quarter of a step of 8-bit colour. Chosen."""


class DecoderCheck(FollowedRuns):
    """The decoding of ``latents`` [C, T, h, w] by ``library``, compiled from ``exported``."""

    part = Part.DECODE

    def __init__(
        self, library: GroupLibrary, exported: ExportedDecoder, latents: Floats, compare: CallCheck | None = None
    ) -> None:
        self.exported, self.latents = exported, latents
        self.chunks: list[Array] = []
        runs = chunks_of(exported, latents.shape[1])
        super().__init__(dict.fromkeys(runs, (library, 0)), runs, ExactnessReport(), compare or CallCheck(None))

    def where(self, step: int, _branch: int) -> str:
        """A chunk in words."""
        return f"decoder, chunk {step}"

    def inputs(self, step: int, _branch: int) -> tuple[Array, ...]:
        """What the graph is given for chunk ``step``."""
        size = self.exported.chunk
        return (np.ascontiguousarray(self.latents[:, step * size : (step + 1) * size]),)

    def end_of_run(self, _run: Run, output: Array) -> None:
        """Keep the frames."""
        self.chunks.append(output)

    def require_result(self, result: Floats) -> None:
        """``result`` are the frames of all chunks."""
        require_same_bits("frames", np.concatenate(self.chunks), result)

    def distance(self) -> float:
        """The most that the first chunk is off from onnx's evaluation; raises BitExactError beyond `MOST_OFF`."""
        path = self.exported.graph
        expected = evaluate_graph(path, {"latents": self.inputs(0, 0)[0]})
        distance = float(np.max(np.abs(expected.astype(np.float64) - self.chunks[0])))
        if not distance <= MOST_OFF:
            raise BitExactError(
                f"{path.name}: expected the compiled frames within {MOST_OFF:g} of onnx's evaluation, got {distance:g}"
                "; report this graph and target"
            )
        return distance


def chunks_of(exported: ExportedDecoder, latent_frames: int) -> list[Run]:
    """The runs of a whole video."""
    return [(chunk, 0) for chunk in range(latent_frames // exported.chunk)]


def decoder_figures(check: DecoderCheck, distance: float | None) -> Mapping[str, float | int | None]:
    """What a report says of a finished check; ``distance`` is None where onnx did not evaluate the graph."""
    return check.report.as_dict() | {"onnx_distance": distance}
