"""Videos are current only when every file of them is whole, and only from a bundle that repeats its golden output."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_demo import PROMPT, SmallDemo

from tvm_flow.errors import BundleError
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
