"""A bundle beside its model: figures and a sheet from equal noise, and only of the model that it was made from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.signed_bundles import KEY, OTHER_KEY, trust_in
from support.small_demo import PROMPT, STEPS, SmallDemo

from tvm_flow.errors import ConfigError, NotSignedError, UnknownKeyError
from tvm_flow.numerics.metrics import psnr_db
from tvm_flow.pack.signature import sign_bundle
from tvm_flow.pipeline import compare
from tvm_flow.pipeline.compare import compare_stage
from tvm_flow.pipeline.decode import Frames
from tvm_flow.pipeline.generate import Generation, generate_latents, noise_for
from tvm_flow.quality.step_latents import float_latents_of_steps

TEXTS = [PROMPT, "green sandal going right"]


def test_figures_are_those_of_the_latents_that_both_make(
    demo: SmallDemo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, steps, source = Frames(demo.compiled.bundle, threads=1), len(STEPS), demo.source
    found = compare_stage(source, frames, TEXTS, 4, tmp_path / "c")
    assert len(found.latents) == steps and found.timesteps == tuple(source.sampler.timesteps()[:steps])
    noise = noise_for(source.latent, [4, 5])
    ours = generate_latents(demo.compiled.bundle, TEXTS, noise, source.embed, Generation(threads=1), progress=False)
    whole = [
        float_latents_of_steps(source.model, source.sampler, source.embed([text]), noise[k], 4 + k)
        for k, text in enumerate(TEXTS)
    ]
    assert found.latents[-1] == psnr_db(np.stack(whole)[:, steps - 1], ours)
    assert found.latents[0] > found.latents[-1] > 30, "errors add up"
    assert found.frames is not None and found.frames > 20
    assert found.table().splitlines()[1].split() == ["1", "1000.0", f"{found.latents[0]:.2f}"]
    with Image.open(found.sheet or "") as image:
        assert image.size[0] > 8 * 96
    saved = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert (saved["prompts"], saved["seed"], tuple(saved["latents_psnr_db"])) == (TEXTS, 4, found.latents)
    monkeypatch.setattr(compare, "_trajectories", lambda *_: pytest.fail("it is current"))
    assert compare_stage(source, frames, TEXTS, 4, tmp_path / "c") == found


def test_another_model_or_sampler_is_refused(demo: SmallDemo, tmp_path: Path) -> None:
    frames, source = Frames(demo.compiled.bundle, threads=1), demo.source
    with pytest.raises(ConfigError, match='"steps": 7'):
        compare_stage(replace(source, sampler=replace(source.sampler, steps=7)), frames, TEXTS, 0, tmp_path / "c")
    weight = source.model.final_layer.linear.weight
    weight.data[0, 0] += 1
    try:
        with pytest.raises(ConfigError, match=r"expected a bundle of the model with sha256 .*--model"):
            compare_stage(source, frames, TEXTS, 0, tmp_path / "c")
    finally:
        weight.data[0, 0] -= 1
    assert not (tmp_path / "c").exists()


def test_only_what_is_signed_as_asked_is_compared(demo: SmallDemo, tmp_path: Path) -> None:
    """Figures that are there already are refused too."""
    bundle, output = tmp_path / "bundle", tmp_path / "c"
    shutil.copytree(demo.compiled.bundle, bundle)
    frames = Frames(bundle, threads=1, trust=trust_in(KEY))
    with pytest.raises(NotSignedError):
        compare_stage(demo.source, frames, TEXTS[:1], 0, output)
    assert not output.exists()
    sign_bundle(bundle, KEY, "demo", 1)
    assert compare_stage(demo.source, frames, TEXTS[:1], 0, output).frames
    with pytest.raises(UnknownKeyError):
        compare_stage(demo.source, replace(frames, trust=trust_in(OTHER_KEY)), TEXTS[:1], 0, output)
