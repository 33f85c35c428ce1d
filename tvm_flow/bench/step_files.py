"""What `tvm_flow.bench.step` compares: a checkpoint, its int8 bundle, and its step graph in int8 and in float."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tvm_flow.bench.int8_export import calibrated
from tvm_flow.bench.models import SEED, BenchModel
from tvm_flow.bench.stages import RECIPE
from tvm_flow.bench.step_inputs import StepFiles
from tvm_flow.compile.library import build_library
from tvm_flow.compile.step_build import bundle_contents, golden_input
from tvm_flow.export import Exported
from tvm_flow.importer.step_groups import import_steps
from tvm_flow.model import STDiTConfig
from tvm_flow.pack import write_bundle
from tvm_flow.pipeline.generate import prompt_pair
from tvm_flow.pipeline.source import Source
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.plan.store import WeightStore
from tvm_flow.profile.call_names import calls_file
from tvm_flow.target.spec import TargetSpec, load_target

FLOAT_RECIPE = 'smoothing: null\nkeep_float: ["*"]\n'


def prepare(model: BenchModel, folder: Path, threads: int, target: str = "host") -> GroupLibrary:
    """Write everything that `StepFiles` names into ``folder``, progress on stderr; returns the bundle's one library.

    The bundle is compiled for ``target``, a name or path that `tvm_flow.target.spec.load_target` takes.
    """
    files, start = StepFiles(folder), time.perf_counter()

    def done(stage: str) -> None:
        print(f"{stage}: {time.perf_counter() - start:.0f} s since the start", file=sys.stderr, flush=True)

    made = calibrated(model, folder, threads, done)
    (folder / "fp32.yaml").write_text(FLOAT_RECIPE)
    exports = {}
    for kind, recipe in (("int8", RECIPE), ("fp32", folder / "fp32.yaml")):
        exports[kind] = made.exported(kind, recipe)
        done(f"exported {kind}")
    library = _bundle(exports["int8"], folder, load_target(target))
    done("compiled")
    arrays = _inputs(made.source, made.tokens, made.length, exports["int8"])
    np.savez(files.inputs, prologue=library.packed.program.prologue, **arrays)
    return library


def _bundle(exported: Exported, folder: Path, target: TargetSpec) -> GroupLibrary:
    """Write it; returns its library."""
    weights = WeightStore(folder / "weights.bin")
    (group,) = import_steps(exported.graphs, progress=False)
    library = build_library(group, exported, target, weights, folder / "group0.so")
    contents = bundle_contents(exported, target, [library], weights, golden_input(exported))
    write_bundle(folder / "bundle", replace(contents, extra=calls_file([library], folder)))
    return library


def _inputs(source: Source, tokens: np.ndarray, length: int, exported: Exported) -> dict[str, Any]:
    noise = torch.randn(source.latent, generator=torch.Generator().manual_seed(SEED)).numpy()
    prompt, _ = prompt_pair(tokens, length, exported.null_caption)
    video = {name: getattr(source.sampler, name) for name in ("fps", "height", "width")}
    t = source.sampler.timesteps()[0]
    return {"z": noise, "y": prompt.tokens, "mask": prompt.mask, "length": length, "t": t, **video}


def step_macs(model: BenchModel) -> int:
    """Multiplications of one velocity: linears and attention of all blocks; patches and final layer are below 0.1 %."""
    config, (frames, rows, columns) = model.config, patches(model)
    places, width, text = rows * columns, config.hidden, config.model_max_length
    tokens = frames * places
    mlp = 2 * width * config.mlp_hidden
    attention, cross = 4 * width**2, 2 * width**2
    spatial, temporal = 2 * tokens * places * width, 2 * tokens * frames * width
    cross_attention = 2 * tokens * text * width + text * 2 * width**2
    if isinstance(config, STDiTConfig):
        return config.depth * (tokens * (2 * attention + cross + mlp) + spatial + temporal + cross_attention)
    both = 2 * (tokens * (attention + cross + mlp) + cross_attention)
    return config.depth * (both + spatial + temporal)


def patches(model: BenchModel) -> tuple[int, int, int]:
    """Frames, rows and columns of tokens."""
    frames, rows, columns = (-(-size // p) for size, p in zip(model.latent[1:], model.config.patch, strict=True))
    return frames, rows, columns
