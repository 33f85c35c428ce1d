"""Both autoencoders against their own libraries, the chunks of v1.2, and a line for every mistake."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny_folders import SPATIAL, TEMPORAL, video_state, write_video_vae

from tvm_flow.errors import CheckpointError, ConfigError
from tvm_flow.opensora import ImageVAE, VideoVAE, load_autoencoder
from tvm_flow.opensora.autoencoder import SPATIAL as RELEASED


def load_tiny(folder: Path) -> VideoVAE:
    module = load_autoencoder(folder, SPATIAL, TEMPORAL)
    assert isinstance(module, VideoVAE)
    return module


class TestImage:
    def test_decodes_every_frame_as_diffusers_does(self, image_vae: Path) -> None:
        from diffusers import AutoencoderKL

        module, theirs = load_autoencoder(image_vae), AutoencoderKL.from_pretrained(image_vae)
        assert isinstance(module, ImageVAE)
        z = torch.randn(2, 4, 3, 5, 4)
        seen: list[int] = []
        video = module.decode(z, 3, lambda: seen.append(1))
        assert len(seen) == len(z) * 3
        assert (tuple(video.shape), video.dtype) == ((2, 3, 10, 8, 3), torch.float32)
        assert video.min() >= 0 and video.max() <= 1
        with torch.no_grad():
            frame = theirs.decode(z[1, :, 2][None] / 0.18215).sample[0].permute(1, 2, 0)
        torch.testing.assert_close(video[1, 2], (frame / 2 + 0.5).clamp(0, 1), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("shape", [(1, 3, 2, 4, 4), (1, 4, 3, 4, 4), (4, 2, 4, 4)])
    def test_another_latent_is_refused(self, image_vae: Path, shape: tuple[int, ...]) -> None:
        with pytest.raises(ConfigError, match=r"latents: expected \[B, 4, 2, h, w\] for 2 frames"):
            load_autoencoder(image_vae).decode(torch.zeros(shape), 2)

    def test_a_missing_weight_is_not_made_up(self, image_vae: Path, tmp_path: Path) -> None:
        folder = tmp_path / "vae"
        shutil.copytree(image_vae, folder)
        (file,) = folder.glob("*.safetensors")
        state = load_file(file)
        del state["decoder.conv_out.bias"]
        save_file(state, file, {"format": "pt"})
        with pytest.raises(CheckpointError, match=r"1 missing and 0 of another shape: decoder.conv_out.bias"):
            load_autoencoder(folder)
        state["decoder.conv_out.bias"] = torch.zeros(7)
        save_file(state, file, {"format": "pt"})
        words = (
            r"1 of another shape: decoder.conv_out.bias \(have \[7\] but require \[3\]\); give the weights that belong"
        )
        with pytest.raises(CheckpointError, match=words):
            load_autoencoder(folder)
        file.unlink()
        with pytest.raises(CheckpointError, match="expected a diffusers AutoencoderKL with its weights"):
            load_autoencoder(folder)


class TestVideo:
    def test_chunks_normalisation_and_both_parts(self, tmp_path: Path) -> None:
        """21 frames: 17 from five latent frames, three of whose frames are padding, and 4 from one."""
        state = video_state()
        module = load_tiny(write_video_vae(tmp_path / "v", state))
        z = torch.randn(1, 4, 6, 3, 2)
        video = module.decode(z, 21)
        assert tuple(video.shape) == (1, 21, 6, 4, 3)
        denormalised = z * state["scale"] + state["shift"]
        with torch.no_grad():
            first = module.temporal(denormalised[:, :, :5], 20)[:, :, 3:]
            second = module.temporal(denormalised[:, :, 5:], 4)
            latents = torch.cat([first, second], 2)[0].transpose(0, 1)
            frames = module.spatial.decode(latents / 0.18215).sample.permute(0, 2, 3, 1)
        torch.testing.assert_close(video[0], (frames / 2 + 0.5).clamp(0, 1), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("frames", "latent"), [(51, 15), (17, 5), (1, 1), (4, 1), (5, 2), (18, 6), (102, 30)])
    def test_latent_frames(self, tmp_path: Path, frames: int, latent: int) -> None:
        module = load_tiny(write_video_vae(tmp_path / "v", video_state()))
        assert module.latent_frames(frames) == latent
        with pytest.raises(ConfigError, match=rf"expected \[B, 4, {latent}, h, w\] for {frames} frames"):
            module.decode(torch.zeros(1, 4, latent + 1, 2, 2), frames)

    def test_released_normalisation_where_the_file_has_none(self, tmp_path: Path) -> None:
        state = {key: value for key, value in video_state().items() if key not in ("shift", "scale")}
        module = load_tiny(write_video_vae(tmp_path / "v", state, micro_frame_size=9))
        assert module.shift.tolist() == pytest.approx([-0.10, 0.34, 0.27, 0.98])
        assert module.scale.tolist() == pytest.approx([3.85, 2.32, 2.33, 3.06])
        assert module.chunk == 9

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("temporal_vae.decoder.conv_out.conv.bias", None, "1 missing .*temporal_vae.decoder.conv_out.conv.bias"),
            ("spatial_vae.module.decoder.conv_in.weight", None, "1 missing .*spatial_vae.module.decoder.conv_in"),
            ("temporal_vae.post_quant_conv.conv.bias", torch.zeros(5), r"1 of another.*\[5\] but require \[4\]"),
            ("shift", torch.zeros(3), "expected 4 values of shift and scale"),
        ],
    )
    def test_weights_that_do_not_fit(self, tmp_path: Path, key: str, value: torch.Tensor | None, message: str) -> None:
        state = video_state()
        del state[key]
        folder = write_video_vae(tmp_path / "v", state | ({} if value is None else {key: value}))
        with pytest.raises(CheckpointError, match=message):
            load_tiny(folder)

    @pytest.mark.parametrize("size", [0, None, "17", True])
    def test_an_impossible_chunk(self, tmp_path: Path, size: Any) -> None:
        with pytest.raises(CheckpointError, match="positive micro_frame_size"):
            load_tiny(write_video_vae(tmp_path / "v", video_state(), micro_frame_size=size))

    def test_the_released_spatial_part_is_sdxls(self) -> None:
        """83,653,863 parameters: the published size of sdxl-vae."""
        from diffusers import AutoencoderKL

        with torch.device("meta"):
            module = AutoencoderKL(**RELEASED)
        assert sum(p.numel() for p in module.parameters()) == 83_653_863


class TestFolders:
    def test_an_absent_folder_is_not_looked_for_on_a_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError, match="expected a local folder with an Open-Sora autoencoder, got nothing"):
            load_autoencoder(Path("stabilityai/sd-vae-ft-ema"))

    @pytest.mark.parametrize("content", ["[]", "{", '{"_class_name": "VQModel"}'])
    def test_another_config_is_refused(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            load_autoencoder(tmp_path)

    def test_without_the_extra_it_says_how_to_install_it(
        self, image_vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        video = write_video_vae(tmp_path / "v", video_state())
        monkeypatch.setitem(sys.modules, "diffusers", None)
        for folder in (image_vae, video):
            assert json.loads((folder / "config.json").read_text())
            with pytest.raises(ConfigError, match=r"diffusers: .*pip install 'tvm-flow\[opensora\]'"):
                load_autoencoder(folder)
