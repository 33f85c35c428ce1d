"""The decoder of an export as a function of its bundle, by the same way as step graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tvm_flow.check.calls import Members
from tvm_flow.check.decoding import DecoderCheck, chunks_of, decoder_figures
from tvm_flow.check.sampling import CallCheck
from tvm_flow.compile.functions import Figures, Job, Source, build_libraries
from tvm_flow.compile.told import told
from tvm_flow.export.decoder_file import ExportedDecoder, load_decoder
from tvm_flow.importer.step_groups import StepGroup, import_graph
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.pack import Contents, Decoder
from tvm_flow.pack.decoder import LIBRARY, NO_FRAMES
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.quantize.quantized import Fold


@dataclass(frozen=True)
class Timeless:
    """The tables of a graph in which nothing depends on time."""

    folds: Mapping[str, Fold] = field(default_factory=dict)
    step_records: Floats = field(default_factory=lambda: np.zeros((1, 0), np.float32))


@dataclass(frozen=True)
class DecoderLibrary:
    """A linked decoder, its weights, and the graph that it was made from; a `BundleFunction`."""

    exported: ExportedDecoder
    library: GroupLibrary
    weights: bytes
    weights_first: int
    latent_frames: int
    left_in_float = ()
    """It has no layer that was to be quantized."""

    @property
    def libraries(self) -> tuple[GroupLibrary]:
        return (self.library,)

    @property
    def members(self) -> Members:
        return dict.fromkeys(chunks_of(self.exported, self.latent_frames), (self.library, 0))

    def placed(self, contents: Contents) -> Contents:
        return replace(contents, decoder=self.packed())

    def check(self, contents: Contents, compare: CallCheck, _steps: int | None) -> DecoderCheck:
        return DecoderCheck(self.library, self.exported, contents.golden.latents, compare)

    def result_shape(self, _contents: Contents) -> tuple[int, ...]:
        return (-1, *self.exported.frames[1:])

    def golden(self, contents: Contents, _check: DecoderCheck, result: Floats) -> Contents:
        return replace(contents, decoder=self.packed(result))

    def figures(self, check: DecoderCheck) -> Figures:
        return decoder_figures(check, check.distance() if check.compare.chosen is None else None)

    def packed(self, frames: Floats | None = None) -> Decoder:
        """For a bundle whose golden latents give ``frames``; None while nobody knows."""
        digest = NO_FRAMES if frames is None else hashlib.sha256(np.ascontiguousarray(frames).tobytes()).digest()
        chunk, shape = self.exported.chunk, self.exported.frames
        return Decoder(self.library.path, self.weights, chunk, shape, digest, self.weights_first)


def build_decoder(job: Job, work: Path) -> DecoderLibrary | None:
    """Compile the decoder of the job's export into ``work``; None when it has none.

    Raises ExportError, ImportGraphError or BuildError.
    """
    decoder = load_decoder(job.exported.folder)
    if decoder is None:
        return None
    with interrupts_kept(), told("import decoder", unit="graph", shown=job.options.progress) as bar:
        graph, weights = import_graph(decoder.graph), WeightStore()
        bar.update()
    groups = (StepGroup(graph, ((0, 0),), (graph.given,)),)
    source = Source("decoder", groups, (decoder.graph,), (LIBRARY,), Timeless(), weights)
    (library,) = build_libraries(source, job, work)
    weights.finish()
    return DecoderLibrary(decoder, library, bytes(weights.file), weights.first, job.exported.latent[1])
