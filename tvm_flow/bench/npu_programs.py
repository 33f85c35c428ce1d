"""What `tvm_flow.bench.npu` compiles: two steps of the demo, and of one block of STDiT-XL at 512 tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tvm_flow.backends.npu.arm.backend import NAME
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.backends.place import laid_out, with_regions
from tvm_flow.backends.registry import backend_named
from tvm_flow.bench.models import MODELS, PROMPT, write_inputs
from tvm_flow.bench.stages import RECIPE
from tvm_flow.calibrate.prompts import load_prompts
from tvm_flow.calibrate.run import Denoising, calibrate
from tvm_flow.errors import ConfigError
from tvm_flow.export import Exported, export
from tvm_flow.graph.program import Program
from tvm_flow.importer.step_groups import StepGroup, import_steps
from tvm_flow.lower.partition import partition
from tvm_flow.pipeline.source import Source, load_source
from tvm_flow.plan.store import WeightStore
from tvm_flow.plan.tables import encode_constants
from tvm_flow.quantize.build import quantize
from tvm_flow.shipped import shipped_folder
from tvm_flow.target.spec import load_target

NAMES = ("demo", "stdit-xl")
STEPS = 2
"""Enough to see which constants change with the step."""
_SMALL = {"frames": 8, "height": 128, "width": 128, "steps": STEPS}
_LATENT = (4, 8, 16, 16)
"""512 tokens of 1x2x2."""


@dataclass(frozen=True)
class NpuProgram:
    """A step group, placed on the NPU and the CPU, and the bytes of the NPU's constants.

    ``shared_bytes`` are all steps' and branches'; ``step_bytes`` are those of a step, all branches together.
    """

    program: Program
    packed: PackedProgram
    shared_bytes: int
    step_bytes: int


def npu_program(name: str, folder: Path) -> NpuProgram:
    """The program ``name`` of `NAMES`, its files in ``folder``; raises ConfigError for another."""
    exported = _export(source_of(name, folder), folder)
    (group,) = import_steps(exported.graphs, progress=False)
    target = replace(load_target("host"), backends=(NAME, CPU))
    backends = [backend_named(each) for each in target.backends]
    program, placements = with_regions(partition(group.graph), target, backends)
    packed = laid_out(program, placements)
    return NpuProgram(program, packed, *_constant_bytes(packed, group, exported))


def source_of(name: str, folder: Path) -> tuple[Source, Path, str]:
    """The model ``name`` of `NAMES`, its file of prompts, and a prompt; raises ConfigError for another."""
    if name == "demo":
        prompts = shipped_folder("calibration") / "prompts.yaml"
        return load_source(), prompts, load_prompts(prompts)[0].text
    if name not in NAMES:
        raise ConfigError(f"model {name!r}: expected one of {', '.join(NAMES)}; choose one of them")
    model = replace(MODELS[name].with_blocks(1), latent=_LATENT)
    inputs = write_inputs(replace(model, sampler={**model.sampler, **_SMALL}), folder, STEPS)
    source = load_source(str(inputs.checkpoint), inputs.sampler, inputs.latent, inputs.captions)
    return source, inputs.prompts, PROMPT


def _export(given: tuple[Source, Path, str], folder: Path) -> Exported:
    (source, prompts, text), ranges = given, folder / "ranges.safetensors"
    torch.set_num_threads(1)
    first = load_prompts(prompts)[:1]
    calibrate(Denoising(source.model, source.sampler, source.latent), first, source.embed, ranges, progress=False)
    quantized = quantize(source.model, ranges, RECIPE, folder / "quantized.safetensors", progress=False)
    tokens, mask = source.embed([text])
    caption = (tokens[0].numpy(), int(mask[0].sum()))
    return export(quantized, folder / "export", caption, range(STEPS), progress=False)


def _constant_bytes(packed: PackedProgram, group: StepGroup, exported: Exported) -> tuple[int, int]:
    """Shared ones and those of a step that calls of the NPU read, stored as a bundle stores them."""
    calls = [call for call in packed.program.calls if packed.device_of(call.kernel) == NAME]
    read = {name for call in calls for name in call.args if name in packed.constants}
    constants = {name: constant for name, constant in packed.constants.items() if name in read}
    weights = WeightStore()
    tables = encode_constants(constants, group.given, group.members, exported.folds, exported.step_records, weights)
    branches = len({branch for _, branch in group.members})
    return weights.size, branches * tables.variant_values()[0].nbytes
