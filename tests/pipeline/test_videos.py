"""Videos are current only when every file of them is whole, and only from a bundle that repeats its golden output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small_demo import PROMPT, SmallDemo

from tvm_flow.errors import BundleError, CheckpointError
from tvm_flow.pipeline import videos
from tvm_flow.pipeline.videos import write_videos
from tvm_flow.run import Bundle


def test_a_truncated_gif_is_written_again(demo: SmallDemo, tmp_path: Path) -> None:
    (gif,) = write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
    whole = gif.read_bytes()
    gif.write_bytes(whole[: len(whole) // 2])
    assert write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1) == [gif]
    assert gif.read_bytes() == whole
    before = gif.stat().st_mtime_ns
    write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
    assert gif.stat().st_mtime_ns == before


def test_another_autoencoder_decodes_again(demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gif,) = write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
    before, weights = gif.stat().st_mtime_ns, tmp_path / "weights"
    weights.mkdir()
    for name in ("vae.safetensors", "captions.safetensors"):
        (weights / name).write_bytes((videos.WEIGHTS / name).read_bytes() + b" ")
    monkeypatch.setattr(videos, "WEIGHTS", weights)
    write_videos(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1)
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
