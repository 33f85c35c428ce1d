"""The decoder in an export folder: ``decoder.onnx`` and its external weights, both optional."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx

from tvm_flow.artifact import write_bytes
from tvm_flow.errors import ExportError
from tvm_flow.export.decoder import AnyDecoder, decoder_graph
from tvm_flow.export.write import check_graph
from tvm_flow.export.writer import WeightFile
from tvm_flow.opensora.autoencoder import ImageVAE, VideoVAE

DECODER_FILES = GRAPH, WEIGHTS = "decoder.onnx", "decoder_weights.bin"


@dataclass(frozen=True)
class ExportedDecoder:
    """``graph`` decodes latents [C, chunk, h, w] to frames [F, H, W, 3]."""

    graph: Path
    latents: tuple[int, int, int, int]
    frames: tuple[int, int, int, int]

    @property
    def chunk(self) -> int:
        """Latent frames that are decoded at a time."""
        return self.latents[1]


def export_decoder(module: AnyDecoder, latent: tuple[int, ...], folder: Path) -> ExportedDecoder:
    """Write the decoder of a latent [C, T, h, w] into ``folder``.

    An image autoencoder decodes one latent frame at a time, v1.2's as many as its temporal part was trained on, the
    demo's small one all of them. Raises ExportError when they do not divide T.
    """
    channels, frames, height, width = latent
    chunk = chunk_of(module, frames)
    if frames % chunk:
        raise ExportError(
            f"decoder: expected a multiple of {chunk} latent frames, got {frames}; choose a video of whole chunks"
        )
    weights = WeightFile(WEIGHTS)
    graph = decoder_graph(module, (channels, chunk, height, width), weights)
    weights.write(folder)
    write_bytes(folder / GRAPH, graph.model.SerializeToString())
    check_graph(folder / GRAPH)
    return ExportedDecoder(folder / GRAPH, graph.latents, graph.frames)


def chunk_of(module: AnyDecoder, frames: int) -> int:
    """Latent frames to decode at a time, of ``frames``."""
    if isinstance(module, ImageVAE):
        return 1
    return -(-module.chunk // module.temporal.config.factor) if isinstance(module, VideoVAE) else frames


def load_decoder(folder: Path) -> ExportedDecoder | None:
    """The decoder in ``folder``, or None; raises ExportError for a damaged one."""
    path = folder / GRAPH
    if not path.exists():
        return None
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
        shapes = [[int(d.dim_value) for d in v.type.tensor_type.shape.dim] for v in (graph.input[0], graph.output[0])]
        (channels, chunk, h, w), (frames, height, width, colours) = shapes
    except Exception as error:
        raise ExportError(
            f"{path}: expected the graph of a decoder, got {type(error).__name__}: {error}; export again"
        ) from error
    return ExportedDecoder(path, (channels, chunk, h, w), (frames, height, width, colours))


def decoder_sha256(module: AnyDecoder | None) -> str | None:
    """Of an autoencoder's kind, sizes and weights; for stamps."""
    if module is None:
        return None
    parts = {
        ImageVAE: lambda m: [m.module],
        VideoVAE: lambda m: [m.temporal, m.spatial],
    }.get(type(module), lambda m: [m])(module)
    digest = hashlib.sha256(f"{type(module).__name__} {getattr(module, 'chunk', '')}".encode())
    for part in parts:
        for key, value in sorted(part.state_dict().items()):
            digest.update(f"{key} {list(value.shape)}".encode() + value.float().contiguous().numpy().tobytes())
    for name in ("shift", "scale"):
        digest.update(getattr(module, name).numpy().tobytes() if isinstance(module, VideoVAE) else b"")
    return digest.hexdigest()
