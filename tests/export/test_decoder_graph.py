"""Decoders as ONNX graphs: each equals the autoencoder it was written from; what cannot be written is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from support.tiny_folders import SPATIAL, TEMPORAL, video_state, write_image_vae, write_video_vae

from tvm_flow.demo import load_vae
from tvm_flow.errors import ExportError
from tvm_flow.export.decoder import decoder_graph
from tvm_flow.export.decoder_file import DECODER_FILES, decoder_sha256, export_decoder, load_decoder
from tvm_flow.export.writer import WeightFile
from tvm_flow.opensora import ImageVAE, VideoVAE, load_autoencoder

Module = Any


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Module]:
    folder = tmp_path_factory.mktemp("vae")
    return {
        "demo": load_vae(),
        "image": load_autoencoder(write_image_vae(folder / "image")),
        "video": load_autoencoder(write_video_vae(folder / "video", video_state()), SPATIAL, TEMPORAL),
    }


# latent of the video, latent frames at a time, frames at a time
SIZES = {
    "demo": ((8, 3, 5, 4), 3, (3, 20, 16, 3)),
    "image": ((4, 3, 4, 5), 1, (1, 8, 10, 3)),
    "video": ((4, 10, 3, 2), 5, (17, 6, 4, 3)),
}


def decode(module: Module, latents: np.ndarray[Any, Any], frames: int) -> Any:
    z = torch.from_numpy(latents)[None]
    with torch.no_grad():
        video = module.decode(z, frames) if isinstance(module, ImageVAE | VideoVAE) else module.decode(z)
    return video[0].numpy()


@pytest.mark.parametrize("name", SIZES)
def test_a_chunk_equals_the_autoencoder(modules: dict[str, Module], name: str, tmp_path: Path) -> None:
    latent, chunk, frames = SIZES[name]
    exported = export_decoder(modules[name], latent, tmp_path)
    assert (exported.latents, exported.chunk) == ((latent[0], chunk, *latent[2:]), chunk)
    assert exported.frames == frames
    assert load_decoder(tmp_path) == exported
    z = np.random.default_rng(0).standard_normal(exported.latents).astype(np.float32)
    (got,) = ReferenceEvaluator(onnx.load(str(exported.graph))).run(None, {"latents": z})
    want = decode(modules[name], z, frames[0])
    assert got.shape == want.shape == frames
    assert want.std() > 0.01, "nothing to compare"
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("name", SIZES)
def test_weights_lie_outside_the_graph(modules: dict[str, Module], name: str, tmp_path: Path) -> None:
    exported = export_decoder(modules[name], SIZES[name][0], tmp_path)
    graph = onnx.load(str(exported.graph), load_external_data=False).graph
    inside = [t.name for t in graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL]
    assert all(n.startswith("i64_") for n in inside)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "decoder_weights.bin"]


class TestRefusals:
    def test_latents_of_other_channels(self, modules: dict[str, Module]) -> None:
        for name in ("demo", "image"):
            with pytest.raises(ExportError, match=r"expected latents of . channels, got 5"):
                decoder_graph(modules[name], (5, 1, 4, 4), WeightFile("w"))

    def test_part_of_a_chunk(self, modules: dict[str, Module], tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="expected a multiple of 5 latent frames, got 6"):
            export_decoder(modules["video"], (4, 6, 4, 4), tmp_path)
        with pytest.raises(ExportError, match="expected 5 latent frames at a time, got 3"):
            decoder_graph(modules["video"], (4, 3, 4, 4), WeightFile("w"))
        assert not list(tmp_path.iterdir())

    def test_another_kind_of_blocks(self, tmp_path: Path) -> None:
        from diffusers import AutoencoderKL

        sizes: dict[str, Any] = {"block_out_channels": (8,), "norm_num_groups": 4}
        module = AutoencoderKL(**sizes, up_block_types=("AttnUpDecoderBlock2D",))
        with pytest.raises(ExportError, match=r"expected UpDecoderBlock2D blocks with silu, got .'Attn"):
            export_decoder(ImageVAE(module), (4, 1, 4, 4), tmp_path)

    def test_something_else(self) -> None:
        with pytest.raises(ExportError, match="expected a VAE or ImageVAE or VideoVAE, got Linear"):
            decoder_graph(torch.nn.Linear(1, 1), (4, 1, 4, 4), WeightFile("w"))  # type: ignore[arg-type]


class TestFiles:
    def test_none(self, tmp_path: Path) -> None:
        assert load_decoder(tmp_path) is None

    def test_their_names(self, modules: dict[str, Module], tmp_path: Path) -> None:
        export_decoder(modules["demo"], SIZES["demo"][0], tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == set(DECODER_FILES)

    @pytest.mark.parametrize("content", [b"", b"junk"])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "decoder.onnx").write_bytes(content)
        with pytest.raises(ExportError, match="expected the graph of a decoder"):
            load_decoder(tmp_path)

    def test_hash_of_what_is_written(self, modules: dict[str, Module]) -> None:
        first = {name: decoder_sha256(module) for name, module in modules.items()}
        assert len(set(first.values())) == 3
        assert first == {name: decoder_sha256(module) for name, module in modules.items()}
        assert decoder_sha256(None) is None
        other = load_vae()
        other.decoder[0].bias[0] += 1
        assert decoder_sha256(other) != first["demo"]
