"""Ranges of a few calibrated steps, spread over a longer trajectory: calibration is what its length costs most.

Step i of N gets those of calibrated step i * C // N, times a factor that grows with i from 1 - `SPREAD` to
1 + `SPREAD`: no two steps are equal. The stages after calibration cost what they cost with measured ranges.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from tvm_flow.artifact import write_bytes
from tvm_flow.calibrate import LayerRanges, load_ranges
from tvm_flow.calibrate.ranges import save_ranges

SPREAD = 0.2


def spread_ranges(ranges: Path, sampler: Path, steps: int) -> None:
    """Rewrite the files ``ranges`` and ``sampler`` for ``steps`` steps."""
    known = load_ranges(ranges)
    rows = np.arange(steps) * known.sampler.steps // steps
    factors = np.linspace(1 - SPREAD, 1 + SPREAD, steps, dtype=np.float32)[:, None]
    layers = {
        name: LayerRanges(layer.min[rows] * factors, layer.max[rows] * factors, layer.absmax[rows] * factors[..., None])
        for name, layer in known.layers.items()
    }
    longer = replace(known.sampler, steps=steps)
    save_ranges(ranges, replace(known, sampler=longer, layers=layers))
    write_bytes(sampler, yaml.safe_dump({**yaml.safe_load(sampler.read_text()), "steps": steps}).encode())
