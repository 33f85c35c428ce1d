"""Videos are current only when every file of them is whole, and only from a bundle that repeats its golden output."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from support.small_demo import PROMPT, SmallDemo

from tvm_flow.demo import load_vae
from tvm_flow.errors import BundleError, CheckpointError
from tvm_flow.pack import read_golden
from tvm_flow.pipeline import videos
from tvm_flow.pipeline.videos import write_videos
from tvm_flow.run import Bundle, BundleDecoder


def test_a_truncated_gif_is_written_again(demo: SmallDemo, tmp_path: Path) -> None:
    (gif,) = write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
    whole = gif.read_bytes()
    gif.write_bytes(whole[: len(whole) // 2])
    assert write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1) == [gif]
    assert gif.read_bytes() == whole
    before = gif.stat().st_mtime_ns
    write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
    assert gif.stat().st_mtime_ns == before


@pytest.fixture
def without_decoder(demo: SmallDemo, tmp_path: Path) -> Path:
    """The demo's bundle as it was compiled before bundles had decoders."""
    folder = tmp_path / "plain"
    shutil.copytree(demo.folder / "bundle", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("decoder.bin", "decoder_weights.bin", "lib/host/decoder.so"):
        (folder / name).unlink()
        del manifest["files"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_the_bundle_ends_in_the_autoencoders_frames(demo: SmallDemo, without_decoder: Path, tmp_path: Path) -> None:
    """Compiled and float decoders differ by less than what rounds a pixel otherwise, but for a few on an edge."""
    assert demo.compiled.decoder is not None
    assert demo.compiled.decoder["onnx_distance"] < 1e-5
    latents = read_golden(demo.compiled.bundle).latents
    with BundleDecoder.open(demo.compiled.bundle, threads=1) as decoder:
        frames, pixels = decoder.decode(latents), decoder.decode_rgb8(latents)
    want = load_vae().decode(torch.from_numpy(latents)[None])[0].numpy()
    np.testing.assert_allclose(frames, want, atol=1e-5)
    assert pixels.tobytes() == np.rint(frames * np.float32(255)).astype(np.uint8).tobytes()
    ours, theirs = (
        write_videos(bundle, [PROMPT], tmp_path / f"{bundle.name}_videos", threads=1)[0]
        for bundle in (demo.compiled.bundle, without_decoder)
    )
    apart = [np.asarray(a, int) - np.asarray(b, int) for a, b in zip(pictures(ours), pictures(theirs), strict=True)]
    assert max(np.abs(difference).mean() for difference in apart) < 0.1


def pictures(gif: Path) -> list[Any]:
    with Image.open(gif) as opened:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(opened)]


def test_a_decoder_that_computes_something_else_here_makes_no_video(
    demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_bits(decoder: BundleDecoder) -> None:
        raise BundleError(f"{decoder.directory}: the golden frames differ")

    monkeypatch.setattr(BundleDecoder, "verify", other_bits)
    monkeypatch.setattr(videos, "generate_latents", lambda *_, **__: pytest.fail("generation started"))
    with pytest.raises(BundleError, match="golden frames differ"):
        write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)


def test_another_autoencoder_decodes_again(
    without_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gif,) = write_videos(without_decoder, [PROMPT], tmp_path / "v", threads=1)
    before, weights = gif.stat().st_mtime_ns, tmp_path / "weights"
    weights.mkdir()
    for name in ("vae.safetensors", "captions.safetensors"):
        (weights / name).write_bytes((videos.WEIGHTS / name).read_bytes() + b" ")
    monkeypatch.setattr(videos, "WEIGHTS", weights)
    write_videos(without_decoder, [PROMPT], tmp_path / "v", threads=1)
    assert gif.stat().st_mtime_ns > before


def test_a_bundle_that_computes_something_else_here_makes_no_video(
    demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_bits(bundle: Bundle) -> None:
        raise BundleError(f"{bundle.directory}: the golden output differs")

    monkeypatch.setattr(Bundle, "verify", other_bits)
    monkeypatch.setattr(videos, "generate_latents", lambda *_, **__: pytest.fail("generation started"))
    with pytest.raises(BundleError, match="golden output differs"):
        write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
    assert not list(tmp_path.glob("v/*.gif"))


def test_an_autoencoder_folder_must_be_local(demo: SmallDemo, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a local folder with an Open-Sora autoencoder"):
        write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", autoencoder=tmp_path / "absent")
    assert not list(tmp_path.glob("v/*.gif"))


def test_an_image_autoencoder_makes_the_frames(demo: SmallDemo, tmp_path: Path) -> None:
    """One of 8 latent channels, as the demo's latents have, in diffusers' own layout."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"latent_channels": 8, "block_out_channels": (8, 8), "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(**sizes, **kinds).save_pretrained(tmp_path / "vae")
    (gif,) = write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, autoencoder=tmp_path / "vae")
    with Image.open(gif) as opened:
        assert (opened.size, getattr(opened, "n_frames", 1)) == ((256, 256), 8)


def test_any_prompt_makes_a_file_name() -> None:
    assert videos._file_name("a t-shirt/../é: *x*") == "a_t-shirt____é___x_"
    assert len(videos._file_name("long " * 100)) == 80
