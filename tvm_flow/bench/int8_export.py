"""A model of `tvm_flow.bench.models` calibrated on one step, and its int8 export, which is kept for the next run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from tvm_flow.artifact import is_current, make_stamp, write_stamp
from tvm_flow.bench.models import PROMPT, SEED, BenchModel, write_inputs
from tvm_flow.bench.stages import RECIPE
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.calibrate.run import Denoising, calibrate
from tvm_flow.export import Exported, export, load_exported
from tvm_flow.pipeline.source import Source, load_source
from tvm_flow.quantize.build import quantize
from tvm_flow.toolchain.runtime_library import cache_directory

Done = Callable[[str], None]
"""Told of every stage that is over."""


@dataclass(frozen=True)
class Calibrated:
    """A float model in ``folder``, its ranges, and the caption that its exports bring."""

    source: Source
    folder: Path
    ranges: Path
    tokens: np.ndarray
    length: int

    def exported(self, kind: str, recipe: Path) -> Exported:
        """Quantized by ``recipe``, as the folder ``export_<kind>``."""
        quantized = quantize(
            self.source.model, self.ranges, recipe, self.folder / f"{kind}.safetensors", progress=False
        )
        return export(quantized, self.folder / f"export_{kind}", (self.tokens, self.length), progress=False)


def calibrated(model: BenchModel, folder: Path, threads: int, done: Done) -> Calibrated:
    """``model`` with random weights, written into ``folder`` and calibrated on ``threads`` threads."""
    torch.set_num_threads(threads)
    inputs = write_inputs(model, folder, steps=1)
    source = load_source(str(inputs.checkpoint), inputs.sampler, model.latent, inputs.captions)
    done("random weights")
    ranges, prompts = folder / "ranges.safetensors", load_prompts(inputs.prompts)
    calibrate(Denoising(source.model, source.sampler, source.latent), prompts, source.embed, ranges, progress=False)
    done("calibrated")
    tokens, mask = source.embed([PROMPT])
    return Calibrated(source, folder, ranges, tokens[0].numpy(), int(mask[0].sum()))


def kept_export(name: str, model: BenchModel, threads: int, done: Done) -> Exported:
    """The int8 export of ``model``, called ``name``: of the cache, where it is of today's code, else made there."""
    folder = cache_directory() / "bench" / name
    output = folder / "export_int8"
    given = {"model": asdict(model.config), "sampler": dict(model.sampler), "latent": model.latent, "seed": SEED}
    stamp = make_stamp({"recipe": RECIPE}, given, __name__)
    if is_current(output, stamp):
        done("exported before")
        return load_exported(output)
    exported = calibrated(model, folder, threads, done).exported("int8", RECIPE)
    write_stamp(output, stamp)
    done("exported int8")
    return exported
