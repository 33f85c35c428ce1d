"""The decoder of an export, by the same way as step graphs: import, lower, compile, link, and compare every call.

`DecoderCheck` follows one decoding as `tvm_flow.check.trajectory` follows a denoising: every call once and in order,
every tensor what was last written under its name, every result within what single precision may do to it. The first
chunk's frames are also held against onnx's own evaluator, which shares no code with the import.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from tvm_flow.check.calls import Array, ExactnessReport, check_call, check_constants, require_same_bits
from tvm_flow.check.emulator import Emulator, run_emulated
from tvm_flow.check.names import require_names_apart
from tvm_flow.compile.library import build_library
from tvm_flow.errors import BitExactError
from tvm_flow.export.decoder_file import ExportedDecoder, load_decoder
from tvm_flow.importer.step_groups import StepGroup, import_graph
from tvm_flow.pack import Contents, Decoder, write_bundle
from tvm_flow.pack.decoder import LIBRARY
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.quantize.quantized import Fold
from tvm_flow.run import BundleDecoder, TracedCall
from tvm_flow.target.spec import TargetSpec

MOST_OFF = 1e-3
"""A frame's distance from onnx's evaluation, of a range of 1: a quarter of a step of 8-bit colour. Chosen."""


@dataclass(frozen=True)
class Timeless:
    """The tables of a graph in which nothing depends on time."""

    folds: Mapping[str, Fold] = field(default_factory=dict)
    step_records: Floats = field(default_factory=lambda: np.zeros((1, 0), np.float32))


@dataclass(frozen=True)
class DecoderLibrary:
    """A linked decoder, its weights, and the graph that it was made from."""

    exported: ExportedDecoder
    library: GroupLibrary
    weights: bytes

    def packed(self, frames: Floats | None = None) -> Decoder:
        """For a bundle whose golden latents give ``frames``."""
        digest = hashlib.sha256(b"" if frames is None else np.ascontiguousarray(frames).tobytes()).digest()
        return Decoder(self.library.path, self.weights, self.exported.chunk, self.exported.frames, digest)


def build_decoder(folder: Path, target: TargetSpec, work: Path) -> DecoderLibrary | None:
    """Compile the decoder of the export ``folder`` into ``work``; None when it has none.

    Raises ExportError, ImportGraphError or BuildError.
    """
    exported = load_decoder(folder)
    if exported is None:
        return None
    graph, weights = import_graph(exported.graph), WeightStore()
    group = StepGroup(graph, ((0, 0),), (graph.given,))
    library = build_library(group, Timeless(), target, weights, work, LIBRARY)
    return DecoderLibrary(exported, library, bytes(weights.data))


@dataclass
class DecoderCheck:
    """Give `see` every traced call of the decoding of ``latents`` [C, T, h, w], then call `finish`."""

    decoder: DecoderLibrary
    latents: Floats
    report: ExactnessReport = field(default_factory=ExactnessReport)
    chunk: int = 0
    call: int = 0
    tensors: dict[str, Array] = field(default_factory=dict)
    chunks: list[Array] = field(default_factory=list)

    def __post_init__(self) -> None:
        require_names_apart(self.decoder.library.packed)

    def see(self, seen: TracedCall) -> None:
        """Compare one call; raises BitExactError when it is not the next one, reads what it should not, or is wrong."""
        program = self.decoder.library.packed.program
        if (seen.step, seen.call) != (self.chunk, self.call) or self.chunk >= self.expected_chunks:
            raise BitExactError(
                f"decoder: expected call {self.call} of chunk {self.chunk}, got call {seen.call} of {seen.step}; "
                "report this graph and target"
            )
        if seen.call == 0:
            self.tensors = {program.graph.inputs[0]: self.input(self.chunk)}
        planned = program.calls[seen.call]
        where = f"decoder, chunk {seen.step}"
        if seen.kernel != planned.kernel:
            raise BitExactError(
                f"{where}, call {seen.call}: expected kernel {planned.kernel}, got {seen.kernel}; report this"
            )
        for name, got in zip(planned.args, seen.args, strict=False):
            if name in self.tensors:
                require_same_bits(f"{where}, call {seen.call}, tensor {name}", self.tensors[name], got)
        library = self.decoder.library
        check_constants(library.packed, seen.call, seen.args, library.given[0], where, self.report)
        check_call(library.packed, seen.call, seen.args, where, self.report)
        self.tensors[planned.output] = seen.args[-1].copy()
        self.call += 1
        if self.call == len(program.calls):
            self.chunks.append(self.tensors[program.output])
            self.chunk, self.call = self.chunk + 1, 0

    @property
    def expected_chunks(self) -> int:
        """Of the whole video."""
        return int(self.latents.shape[1]) // self.decoder.exported.chunk

    def input(self, chunk: int) -> Floats:
        """What the graph is given for ``chunk``."""
        size = self.decoder.exported.chunk
        return np.ascontiguousarray(self.latents[:, chunk * size : (chunk + 1) * size])

    def finish(self, frames: Floats) -> dict[str, Any]:
        """What was compared; raises BitExactError when calls are missing or ``frames`` are not what they wrote."""
        if len(self.chunks) != self.expected_chunks:
            raise BitExactError(
                f"decoder: expected {self.expected_chunks} chunks, got {len(self.chunks)}; report this graph and target"
            )
        require_same_bits("frames", np.concatenate(self.chunks), frames)
        return self.report.as_dict() | {"onnx_distance": self.distance()}

    def distance(self) -> float:
        """The most that the first chunk is off from onnx's evaluation; raises BitExactError beyond `MOST_OFF`."""
        path = self.decoder.exported.graph
        (expected,) = ReferenceEvaluator(onnx.load(str(path))).run(None, {"latents": self.input(0)})
        distance = float(np.max(np.abs(expected.astype(np.float64) - self.chunks[0])))
        if not distance <= MOST_OFF:
            raise BitExactError(
                f"{path.name}: expected the compiled frames within {MOST_OFF:g} of onnx's evaluation, got {distance:g}"
                "; report this graph and target"
            )
        return distance


def with_decoder(
    contents: Contents, decoder: DecoderLibrary | None, work: Path, threads: int, emulator: Emulator | None
) -> tuple[Contents, dict[str, Any] | None]:
    """``contents`` with its decoder, checked on the golden latents, and what was compared; as they are without one.

    ``work`` holds what is built, the program ``trace`` for another architecture too. Raises BitExactError.
    """
    if decoder is None:
        return contents, None
    write_bundle(work / "decoding", replace(contents, decoder=decoder.packed()))
    check = DecoderCheck(decoder, contents.golden.latents)
    emulation = None if emulator is None else (emulator, work / "trace")
    frames, report = check_decoder(work / "decoding", check, threads, emulation)
    return replace(contents, decoder=decoder.packed(frames)), report


def check_decoder(
    bundle: Path, check: DecoderCheck, threads: int, emulation: tuple[Emulator, Path] | None
) -> tuple[Floats, dict[str, Any]]:
    """Decode the golden latents of ``bundle``, every call shown to ``check``; returns frames and what was compared.

    ``emulation`` is the emulator and the program for another architecture. Raises BitExactError at the first call that
    disagrees.
    """
    if emulation is not None:
        flat = run_emulated(*emulation, bundle, threads, check.see, lambda: None, "decode")
        frames: Floats = flat.reshape(-1, *check.decoder.exported.frames[1:])
    else:
        with BundleDecoder.open(bundle, threads=threads) as decoder, decoder.trace(check.see):
            frames = decoder.decode(check.latents)
    return frames, check.finish(frames)
