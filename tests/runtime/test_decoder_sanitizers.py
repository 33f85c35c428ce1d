"""The decoder's C under the address, undefined-behaviour and thread sanitizers, and without memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import toy_bundle, toy_decoder
from support.sanitized import SANITIZERS
from test_sanitizers import build_whole, run

from tvm_flow.pack import Contents


@pytest.fixture
def decoding(contents: Contents, tmp_path: Path) -> Path:
    toy_decoder.write_decoding(tmp_path / "b", contents)
    return tmp_path / "b"


@pytest.mark.parametrize("name", SANITIZERS)
def test_whole_api(decoding: Path, tmp_path: Path, name: str) -> None:
    program = build_whole(tmp_path, "drive_decoder", SANITIZERS[name])
    for threads in ("1", "3"):
        assert run(program, str(decoding), threads) == "ok\n"


@pytest.mark.parametrize("name", SANITIZERS)
def test_a_handle_in_use_refuses_every_other_function(decoding: Path, tmp_path: Path, name: str) -> None:
    """Of step graphs and decoder, on a second thread and from callbacks; what runs is not disturbed."""
    program = build_whole(tmp_path, "busy_check", SANITIZERS[name])
    assert run(program, str(decoding)) == "ok\n"


@pytest.mark.parametrize("name", SANITIZERS)
def test_cancelling_from_anywhere_leaves_the_handle_usable(decoding: Path, tmp_path: Path, name: str) -> None:
    """From a callback, another thread and a signal handler, between kernels and between chunks."""
    program = build_whole(tmp_path, "cancel_check", SANITIZERS[name])
    assert run(program, str(decoding)) == "ok\n"


def test_every_failing_allocation_is_an_error(decoding: Path, tmp_path: Path) -> None:
    wraps = [f"-Wl,--wrap={name}" for name in ("malloc", "calloc", "posix_memalign", "strdup")]
    flags = ["-DFAILING_ALLOCATIONS", *wraps]
    program = build_whole(tmp_path, "drive_decoder", SANITIZERS["address"], *flags)
    assert int(run(program, str(decoding))) >= 8, "fewer would mean that --wrap missed some"


def test_the_toy_kernel_is_the_numpy_one(contents: Contents) -> None:
    """What the other tests compare with: frames 2 t and 2 t + 1 of latent frame t."""
    latents = contents.golden.latents
    frames = toy_decoder.decode(latents)
    assert frames.shape == (2 * latents.shape[1], 2, 2, 3)
    for colour in range(3):
        pixel = latents[colour, 1] * toy_decoder.WEIGHTS[colour]
        assert frames[2, :, :, colour].tobytes() == pixel.tobytes()
        assert frames[3, :, :, colour].tobytes() == (pixel + latents[3, 1]).tobytes()
    assert latents.shape == toy_bundle.SHAPE
