"""run refuses a bundle that nobody checked, unless that is asked for; then it says what it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from support import toy_bundle

from tvm_flow.errors import BundleError
from tvm_flow.opensora import save_embeddings
from tvm_flow.pack import read_golden, write_bundle
from tvm_flow.pack.contents import NOT_COMPUTED
from tvm_flow.pipeline.videos import VideoRequest, remarks, write_videos


def test_an_unchecked_bundle_runs_when_it_is_asked_for(tmp_path: Path) -> None:
    checked = toy_bundle.make_contents(toy_bundle.compile_groups(tmp_path))
    write_bundle(tmp_path / "checked", checked)
    write_bundle(tmp_path / "bundle", replace(checked, golden=replace(checked.golden, steps=NOT_COMPUTED)))
    tokens = torch.ones(1, *read_golden(tmp_path / "bundle").cond.tokens.shape)
    save_embeddings(tmp_path / "e", ["one"], tokens, torch.tensor([2]))
    wanted = VideoRequest(tmp_path / "bundle", ["one"], tmp_path / "out", threads=1, embeddings=tmp_path / "e")
    with pytest.raises(BundleError, match=r"--check none.*--unchecked"):
        write_videos(wanted)
    assert not (tmp_path / "out").exists()
    (latents,) = write_videos(replace(wanted, unchecked=True))
    assert remarks(wanted)[0].startswith("unchecked bundle")
    (other,) = write_videos(replace(wanted, bundle=tmp_path / "checked", output=tmp_path / "other"))
    np.testing.assert_array_equal(load_file(latents)["latents"], load_file(other)["latents"])
