"""``scripts/bench npu`` on blocks in integers (recipe ``static-w8a8-integer``): a block is one graph, nothing in float.

The line is that of the linears' program, with each block's calls become one region whose input and output are the
residual's codes, and a caption's keys and values, which no step enters, one region of the prologue. What lies outside
of the blocks stays as it is there. ``cycles`` are the blocks' of a step. Regions and crossings are counted in that
program, which has as many as a bundle of the recipe; the graphs themselves are compiled and run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from tvm_flow.backends.npu.arm.backend import NAME
from tvm_flow.backends.npu.arm.blobs import Blob
from tvm_flow.backends.npu.arm.client import EmulatedNpu
from tvm_flow.backends.npu.arm.integer_graph import IntegerGraph
from tvm_flow.backends.npu.arm.tosa import Value
from tvm_flow.backends.packed import PackedProgram, Placement
from tvm_flow.bench.npu_programs import NpuProgram, source_of
from tvm_flow.bench.npu_streams import stage
from tvm_flow.calibrate import Denoising, load_prompts
from tvm_flow.calibrate.reach import measure_reach
from tvm_flow.calibrate.samples import sample_inputs
from tvm_flow.graph.constants import given_names
from tvm_flow.graph.program import KernelCall, Program
from tvm_flow.lower.merged import merged
from tvm_flow.numerics.integer_rows import MASKED
from tvm_flow.numerics.tosa_operators import Array, NumpyOperators
from tvm_flow.pipeline.source import Source
from tvm_flow.quantize.integer_block import BlockWriter
from tvm_flow.quantize.integer_parts import IntegerBlock
from tvm_flow.quantize.integer_scheme import IntegerModel, in_integers
from tvm_flow.quantize.named_recipes import find_recipe
from tvm_flow.quantize.scheme import make_scheme
from tvm_flow.quantize.simulated import simulated_outputs, simulating
from tvm_flow.toolchain.arm_npu import serialized, vgf_of

RECIPE = "static-w8a8-integer"
_STEPS = (0, 1)
"""Enough to see which constants change with the step."""
_ROWS = 8
Member = tuple[int, int]


@dataclass(frozen=True, eq=False)
class IntegerBlocks:
    """Blocks by name, then by step and branch, and what they read: M tokens, L of a caption, C channels."""

    blocks: Mapping[str, Mapping[Member, IntegerBlock]]
    tokens: int
    caption: int
    channels: int

    def inputs(self) -> tuple[Array, Array, Array]:
        """Seeded codes of a residual and of a caption's keys and values, and a mask with padding."""
        rng = np.random.default_rng(0)
        x = np.clip(rng.normal(0, 5000, (1, self.tokens, self.channels)), -32768, 32767).astype(np.int16)
        kv = rng.integers(-127, 128, (1, self.caption, 2 * self.channels), dtype=np.int8)
        seen = np.arange(self.caption) < max(1, 2 * self.caption // 3)
        return x, kv, np.where(seen, 0, MASKED).astype(np.int32).reshape(1, 1, -1)

    def graph(self, block: IntegerBlock, baked: bool) -> tuple[IntegerGraph, Value]:
        """``block`` as a graph, and its output."""
        ops = IntegerGraph(baked)
        given = [ops.graph.input(array.shape, str(array.dtype)) for array in self.inputs()]
        return ops, BlockWriter(ops, block).run(*given)

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """Names of blocks by the text of their graphs, whose constants are inputs."""
        found: dict[str, list[str]] = {}
        for name, made in self.blocks.items():
            ops, output = self.graph(made[0, 0], baked=False)
            found.setdefault(ops.graph.text(output), []).append(name)
        return found

    def constant_bytes(self) -> tuple[int, int]:
        """Of what all steps and branches share, and of the rest at one step, both branches together."""
        shared = changing = 0
        for made in self.blocks.values():
            arrays = [self.graph(block, baked=False)[0].arrays for block in made.values()]
            for first, *others in zip(*arrays, strict=True):
                same = all(np.array_equal(first, other) for other in others)
                shared, changing = shared + same * first.nbytes, changing + (not same) * 2 * first.nbytes
        return shared, changing


def integer_blocks(name: str, folder: Path) -> IntegerBlocks:
    """Those of the model ``name``, calibrated on one prompt, as two steps of its sampler have them."""
    source, prompts, text = source_of(name, folder)
    torch.set_num_threads(1)
    denoising, first = Denoising(source.model, source.sampler, source.latent), load_prompts(prompts)[:1]
    samples = sample_inputs(denoising, first, source.embed, _ROWS, progress=False)
    reach = measure_reach(denoising, first, source.embed, progress=False)
    scheme = make_scheme(source.model, find_recipe(RECIPE), samples)
    made = _made(source, text, IntegerModel(scheme.layers, reach))
    config = source.model.config
    tokens = int(np.prod([-(-extent // p) for extent, p in zip(source.latent[1:], config.patch, strict=True)]))
    return IntegerBlocks(made, tokens, config.model_max_length, config.hidden)


def _made(source: Source, text: str, integers: IntegerModel) -> dict[str, dict[Member, IntegerBlock]]:
    """What the first steps of a trajectory need."""
    z = torch.randn(1, *source.latent, generator=torch.Generator().manual_seed(0))
    times = source.sampler.timesteps().tolist()
    with torch.no_grad(), simulating(source.model, integers.layers) as clock:
        outputs = simulated_outputs(source.model, clock, source.embed([text]), source.sampler)
        with in_integers(source.model, integers, clock) as runners:
            for step in _STEPS:
                outputs(z, step, times[step])
    return {name: dict(runner.made) for name, runner in runners.items()}


def run_blocks(given: IntegerBlocks) -> tuple[bool, int]:
    """Whether every kind of block is exact in Arm's emulation layer, and the bytes of their VGFs."""
    exact, size, inputs = True, 0, given.inputs()
    with EmulatedNpu() as npu:
        for text, names in given.kinds.items():
            block = given.blocks[names[0]][0, 0]
            ops, output = given.graph(block, baked=False)
            vgf = vgf_of(serialized(text))
            size += len(vgf)
            blob = Blob(vgf, _signature(ops, output))
            with stage(f"{names[0]} in the emulation layer, one graph"):
                got = np.frombuffer(npu.run(npu.load(blob), [*inputs, *ops.arrays]), np.int16).reshape(inputs[0].shape)
            want = BlockWriter(NumpyOperators(), block).run(*inputs)
            if not np.array_equal(got, want):
                exact = False
                print(f"{names[0]}: {int((got != want).sum())} of {got.size} codes differ", file=sys.stderr)
    return exact, size


def _signature(ops: IntegerGraph, output: Value) -> str:
    return json.dumps([{"dtype": v.dtype, "shape": list(v.shape)} for v in (*ops.graph.inputs, output)])


def block_graphs(given: IntegerBlocks) -> dict[str, bytes]:
    """TOSA of the first block of every kind, its constants those of the first step."""
    found = {}
    for names in given.kinds.values():
        ops, output = given.graph(given.blocks[names[0]][0, 0], baked=True)
        found[names[0]] = serialized(ops.graph.text(output))
    return found


def with_blocks(linears: NpuProgram, names: Sequence[str]) -> tuple[PackedProgram, dict[str, str]]:
    """The linears' program with each block's calls as one on the NPU, and the kernels of the blocks ``names``.

    What makes keys and values of a caption's codes is on the NPU, too; it is several calls here and one graph there.
    """
    program, packed = linears.program, linears.packed
    runs = {name: _run(program, name) for name in names}
    joined = merged(program, list(runs.values()))
    outputs = {program.calls[run.stop - 1].output: name for name, run in runs.items()}
    kernels = {outputs[call.output]: call.kernel for call in joined.calls if call.output in outputs}
    ours = {*kernels.values(), *(call.kernel for call in joined.calls[: joined.prologue] if _after_codes(joined, call))}
    region = Placement(NAME, "TOSA, a block in integers")
    placements = {name: region if name in ours else packed.placements[name] for name in joined.kernels}
    return PackedProgram(joined, packed.constants, {}, placements), kernels


def _run(program: Program, block: str) -> range:
    """The calls of ``block`` in a step: from the first to the last that reads a constant of its."""
    step = range(program.prologue, len(program.calls))
    found = [position for position in step if _reads(program, program.calls[position], block)]
    return range(found[0], found[-1] + 1)


def _reads(program: Program, call: KernelCall, block: str) -> bool:
    constants = (program.graph.constants[name] for name in call.args if name in program.graph.constants)
    return any(name.startswith(f"{block}.") for constant in constants for name in given_names(constant))


def _after_codes(program: Program, call: KernelCall) -> bool:
    """Whether a call of the prologue reads codes of the caption, or what was made of them."""
    makers = {each.output: each for each in program.calls[: program.prologue]}
    coded = any(program.tensors[name].dtype == "int8" for name in call.args if name in makers)
    return coded or any(_after_codes(program, makers[name]) for name in call.args if name in makers)
