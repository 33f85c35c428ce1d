"""Videos are current only when every file of them is whole, and only from a bundle that repeats its golden output."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safetensors.numpy import load_file
from support import toy_bundle
from support.manifests import change_manifest
from support.small_demo import PROMPT, STEPS, SmallDemo

from tvm_flow import artifact
from tvm_flow.demo import load_vae
from tvm_flow.errors import BundleError, CheckpointError, ConfigError, PromptError
from tvm_flow.opensora import save_embeddings
from tvm_flow.pack import read_golden, write_bundle
from tvm_flow.pipeline import videos
from tvm_flow.pipeline.generate import Generation, generate_latents, noise_for, prompt_pairs
from tvm_flow.pipeline.videos import VideoRequest, remarks, write_videos
from tvm_flow.run import Bundle, BundleDecoder


def test_a_truncated_gif_is_written_again(demo: SmallDemo, tmp_path: Path) -> None:
    (gif,) = write_videos(VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, format="gif"))
    whole = gif.read_bytes()
    gif.write_bytes(whole[: len(whole) // 2])
    assert write_videos(VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, format="gif")) == [
        gif
    ]
    assert gif.read_bytes() == whole
    before = gif.stat().st_mtime_ns
    write_videos(VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, format="gif"))
    assert gif.stat().st_mtime_ns == before


def test_what_a_killed_run_wrote_is_its_own_and_finished_by_the_next(demo: SmallDemo, tmp_path: Path) -> None:
    """Killed where a file is whole and its last stamp is not yet written: first of the latents, then of the video."""
    wanted = VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, format="gif")
    for finished in range(2):
        if (child := os.fork()) == 0:
            _die_at_stamp(finished)
            with suppress(BaseException):
                write_videos(wanted)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        with pytest.raises(ConfigError, match="another run"):
            write_videos(replace(wanted, seed=wanted.seed + 1))
    (gif,) = write_videos(wanted)
    before = gif.stat().st_mtime_ns
    assert write_videos(wanted) == [gif] and gif.stat().st_mtime_ns == before


def _die_at_stamp(finished: int) -> None:
    def write_stamp(output: Path, stamp: Mapping[str, Any]) -> None:
        nonlocal finished
        if not finished:
            os.kill(os.getpid(), signal.SIGKILL)
        finished -= 1
        real(output, stamp)

    real, artifact.write_stamp = artifact.write_stamp, write_stamp


@pytest.fixture
def without_decoder(demo: SmallDemo, tmp_path: Path) -> Path:
    """The demo's bundle as it was compiled before bundles had decoders."""
    folder = tmp_path / "plain"
    shutil.copytree(demo.folder / "bundle", folder)
    for name in ("decoder.bin", "decoder_weights.bin", "lib/host/decoder.so"):
        (folder / name).unlink()
        change_manifest(folder, lambda values, name=name: values["files"].pop(name))
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
        write_videos(VideoRequest(bundle, [PROMPT], tmp_path / f"{bundle.name}_videos", threads=1, format="gif"))[0]
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
        write_videos(VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, format="gif"))


def test_another_autoencoder_decodes_again(
    without_decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gif,) = write_videos(VideoRequest(without_decoder, [PROMPT], tmp_path / "v", threads=1, format="gif"))
    before, weights = gif.stat().st_mtime_ns, tmp_path / "weights"
    weights.mkdir()
    for name, more in (("vae.safetensors", b" "), ("captions.safetensors", b"")):
        (weights / name).write_bytes((videos.WEIGHTS / name).read_bytes() + more)
    monkeypatch.setattr(videos, "WEIGHTS", weights)
    write_videos(VideoRequest(without_decoder, [PROMPT], tmp_path / "v", threads=1, format="gif"))
    assert gif.stat().st_mtime_ns > before


def test_a_bundle_that_computes_something_else_here_makes_no_video(
    demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_bits(bundle: Bundle) -> None:
        raise BundleError(f"{bundle.directory}: the golden output differs")

    monkeypatch.setattr(Bundle, "verify", other_bits)
    monkeypatch.setattr(videos, "generate_latents", lambda *_, **__: pytest.fail("generation started"))
    with pytest.raises(BundleError, match="golden output differs"):
        write_videos(VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, format="gif"))
    assert not list(tmp_path.glob("v/*.gif"))


def test_an_autoencoder_folder_must_be_local(demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "generate_latents", lambda *_, **__: pytest.fail("generation started"))
    with pytest.raises(CheckpointError, match="expected a local folder with an Open-Sora autoencoder"):
        write_videos(VideoRequest(demo.folder / "bundle", [PROMPT], tmp_path / "v", autoencoder=tmp_path / "absent"))
    assert not list(tmp_path.glob("v/*.gif"))


def test_an_image_autoencoder_makes_the_frames(demo: SmallDemo, tmp_path: Path) -> None:
    """One of 8 latent channels, as the demo's latents have, in diffusers' own layout."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"latent_channels": 8, "block_out_channels": (8, 8), "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    AutoencoderKL(**sizes, **kinds).save_pretrained(tmp_path / "vae")
    (gif,) = write_videos(
        VideoRequest(
            demo.folder / "bundle", [PROMPT], tmp_path / "v", threads=1, autoencoder=tmp_path / "vae", format="gif"
        )
    )
    with Image.open(gif) as opened:
        assert (opened.size, getattr(opened, "n_frames", 1)) == ((256, 256), 8)


def test_frames_of_another_format_are_decoded_from_the_latents_that_are_there(
    demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mp4,) = write_videos(VideoRequest(demo.compiled.bundle, [PROMPT], tmp_path / "v", threads=1))
    assert mp4.name == "00_a_red_sneaker_moving_left.mp4"
    monkeypatch.setattr(videos, "generate_latents", lambda *_, **__: pytest.fail("generation started"))
    (gif,) = write_videos(VideoRequest(demo.compiled.bundle, [PROMPT], tmp_path / "v", threads=1, format="gif"))
    (frames,) = write_videos(VideoRequest(demo.compiled.bundle, [PROMPT], tmp_path / "v", threads=1, format="png"))
    with BundleDecoder.open(demo.compiled.bundle, threads=1) as decoder:
        pixels = decoder.decode_rgb8(load_file(tmp_path / "v" / "latents.safetensors")["latents"][0])
    for k, path in enumerate(sorted(frames.iterdir())):
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), pixels[k])
    assert len(pictures(gif)) == len(list(frames.iterdir())) == 8
    before = mp4.stat().st_mtime_ns
    write_videos(VideoRequest(demo.compiled.bundle, [PROMPT], tmp_path / "v", threads=1))
    assert mp4.stat().st_mtime_ns == before


def test_a_bundle_without_a_decoder_gives_latents(demo: SmallDemo, tmp_path: Path) -> None:
    """The demo's VAE decodes what is shaped like the demo's latents; these are not."""
    bundle = tmp_path / "toy"
    write_bundle(bundle, toy_bundle.make_contents(toy_bundle.compile_groups(tmp_path)))
    golden, texts = read_golden(bundle), ["one", "two"]
    save_embeddings(tmp_path / "e", texts, torch.ones(2, *golden.cond.tokens.shape), torch.tensor([1, 2]))
    wanted = VideoRequest(bundle, texts, threads=1, embeddings=tmp_path / "e", seed=3)
    with pytest.raises(BundleError, match=r"expected a decoder for .mp4 files"):
        write_videos(replace(wanted, format="mp4"))
    assert write_videos(wanted) == [tmp_path / "videos" / "latents.safetensors"]
    assert any("latents are written; --autoencoder" in line for line in remarks(wanted))
    found = load_file(tmp_path / "videos" / "latents.safetensors")["latents"]
    assert found.shape == (2, *golden.noise.shape)
    one_file = replace(wanted, output=tmp_path / "mine.safetensors")
    assert write_videos(one_file) == [tmp_path / "mine.safetensors"]
    np.testing.assert_array_equal(load_file(tmp_path / "mine.safetensors")["latents"], found)
    assert demo.compiled.decoder is not None, "the demo's own bundle ends in frames"


def test_a_negative_prompt_changes_the_video_and_says_what_was_calibrated(demo: SmallDemo, tmp_path: Path) -> None:
    other = "green sandal going right"
    wanted = VideoRequest(demo.compiled.bundle, [PROMPT], tmp_path / "a", threads=1)
    against = replace(wanted, output=tmp_path / "b", negative=other)
    write_videos(wanted)
    write_videos(against)
    plain, ours = (load_file(tmp_path / name / "latents.safetensors")["latents"] for name in "ab")
    assert not np.array_equal(plain, ours)
    with Bundle.open(demo.compiled.bundle, threads=1) as bundle:
        (cond, uncond), (instead, _) = prompt_pairs(demo.compiled.bundle, [PROMPT, other], demo.source.embed)
        noise = noise_for(ours.shape[1:], [0])[0]
        assert bundle.generate(noise, cond, instead).tobytes() == ours.tobytes()
        assert bundle.generate(noise, cond, uncond).tobytes() == plain.tobytes()
    assert remarks(wanted) == []
    assert remarks(against)[0].startswith("negative prompt: the unconditional branch was calibrated for the null")
    with pytest.raises(PromptError, match="prompt 'ugly'"):
        write_videos(replace(wanted, negative="ugly"))


def test_count_makes_videos_of_seeds_that_count_on(demo: SmallDemo, tmp_path: Path) -> None:
    texts = [PROMPT, "green sandal going right"]
    wanted = VideoRequest(demo.compiled.bundle, texts, tmp_path / "v", threads=1, seed=5, count=2)
    names = [path.name for path in write_videos(wanted)]
    assert names == [f"0{k}_{t.replace(' ', '_')}.mp4" for k, t in enumerate([texts[0]] * 2 + [texts[1]] * 2)]
    rows = load_file(tmp_path / "v" / "latents.safetensors")["latents"]
    noise = noise_for(rows.shape[1:], [5, 6, 7, 8])
    captions = [texts[0]] * 2 + [texts[1]] * 2
    again = generate_latents(wanted.bundle, captions, noise, demo.source.embed, Generation(threads=1), False)
    np.testing.assert_array_equal(rows, again)
    with pytest.raises(ConfigError, match=r"seeds up to 2\*\*63 - 1"):
        write_videos(replace(wanted, seed=2**63 - 2))


def test_every_stage_shows_its_progress(demo: SmallDemo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_videos(VideoRequest(demo.compiled.bundle, [PROMPT], tmp_path / "v", threads=1))
    shown = capsys.readouterr().err
    steps = len(STEPS)
    for bar in (
        rf"check bundle: 100%.* {steps}/{steps} ",
        r"check decoder: \d+kernel",
        rf"generate: 100%.* {steps}/{steps} ",
        r"decode: 100%.* (\d+)/\1 ",
    ):
        assert re.search(bar, shown), bar
