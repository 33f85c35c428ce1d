"""Ranges of a short calibration for a longer trajectory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from tvm_flow.bench.spread import SPREAD, spread_ranges
from tvm_flow.calibrate import CalibrationPrompt, LayerRanges, Ranges, load_ranges
from tvm_flow.calibrate.ranges import save_ranges
from tvm_flow.sampler import SamplerConfig


def test_steps_get_scaled_ranges_of_the_nearest_calibrated_one(tmp_path: Path) -> None:
    ranges, sampler = tmp_path / "ranges.safetensors", tmp_path / "sampler.yaml"
    config = SamplerConfig(steps=2, cfg_scale=2.0, fps=8.0, frames=3, height=32, width=32)
    sampler.write_text(yaml.safe_dump({"steps": 2, "cfg_scale": 2.0}))
    absmax = np.array([[[1, 2], [3, 4]], [[10, 20], [30, 40]]], np.float32)
    layer = LayerRanges(-absmax.max(-1), absmax.max(-1) / 2, absmax)
    save_ranges(ranges, Ranges("m", config, (4, 1, 2, 2), (CalibrationPrompt("a", 1),), {"l": layer}))
    spread_ranges(ranges, sampler, 5)
    got = load_ranges(ranges)
    assert got.sampler.steps == 5 and yaml.safe_load(sampler.read_text()) == {"steps": 5, "cfg_scale": 2.0}
    factors = np.linspace(1 - SPREAD, 1 + SPREAD, 5, dtype=np.float32)
    np.testing.assert_allclose(got.layers["l"].absmax, absmax[[0, 0, 0, 1, 1]] * factors[:, None, None])
    assert len(np.unique(got.layers["l"].min, axis=0)) == 5
