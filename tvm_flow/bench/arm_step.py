"""Executed instructions of one velocity on an AArch64 core under qemu: our bundle beside onnxruntime on the same graph.

    {"model", "blocks", "tokens", "cpu", "ours_minsn", "ours_prologue_minsn", "ours_step_minsn", "ours_max_err",
     "insn_per_mac", "kinds": {KIND: minsn}, "peers": {"onnxruntime_int8" and "_fp32": {"minsn", "max_err"}}}

``minsn`` are millions, one thread, of all that one run executes: products, attention, norms, and what moves memory.
Ours has the prologue in it, which a peer's graph computes in every step. ``kinds`` divides ours by what its calls do
(`tvm_flow.plan.described`); "between" is what the runtime does around them. ``max_err`` is the largest error against
the float model in double precision, for velocities of about unit size; ``insn_per_mac`` ours over the step's
multiplications (`tvm_flow.bench.step_files.step_macs`). An instruction is not a cycle: a peer with fewer may be slower.

The model has 8 frames of 64 places: 512 tokens, which a core that emulates gets through in minutes.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import onnx

from tvm_flow.bench.contenders import Array
from tvm_flow.bench.executed import executed_parts
from tvm_flow.bench.foreign_run import EmulatedCore, Output, run_foreign
from tvm_flow.bench.models import BenchModel, bench_model
from tvm_flow.bench.step import REFERENCE, run_contender
from tvm_flow.bench.step_files import patches, prepare, step_macs
from tvm_flow.bench.step_inputs import StepFiles
from tvm_flow.bench.wheel import CACHE
from tvm_flow.compile.static import link_static, static_files
from tvm_flow.plan.described import described
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import load_target

FRAMES, PIXELS = 8, 128
BETWEEN = "between"

# A mark before the velocity, after each of its calls, and at its end.
_PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tvm_flow_groups.h"
#include "tvm_flow_trace.h"
static int mark(void *user, const tvm_flow_kernel_call *call) { return (void)user, (void)call, (void)getppid(), 0; }
static float *values(const char *path, uint64_t count) {
  float *data = malloc(count * sizeof *data);
  FILE *file = fopen(path, "rb");
  if (data && file && fread(data, sizeof *data, count, file) == count && !fclose(file)) return data;
  return perror(path), exit(1), NULL;
}
int main(int argc, char **argv) { /* bundle, z, tokens, mask, result */
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 1,
                                    .num_linked = tvm_flow_num_linked_groups, .linked = tvm_flow_linked_groups};
  tvm_flow *flow;
  tvm_flow_error error;
  tvm_flow_description d;
  if (argc != 6) return 2;
  if (tvm_flow_open(argv[1], &options, &flow, &error)) return fprintf(stderr, "%s\n", error.message), 1;
  tvm_flow_describe(flow, &d);
  const float *z = values(argv[2], d.latent_floats);
  const tvm_flow_prompt prompt = {values(argv[3], (uint64_t)d.text_tokens * d.text_channels),
                                  values(argv[4], d.text_tokens)};
  float *out = calloc(d.output_floats, sizeof *out);
  tvm_flow_set_trace(flow, mark, NULL);
  getppid();
  if (!out || tvm_flow_velocity(flow, 0, 0, z, &prompt, out, &error)) return fprintf(stderr, "%s\n", error.message), 1;
  getppid();
  FILE *file = fopen(argv[5], "wb");
  return !file || fwrite(out, sizeof *out, d.output_floats, file) != d.output_floats || fclose(file);
}
"""


@dataclass(frozen=True)
class StepCore:
    """A target of ours, and the core of qemu that both sides run on."""

    target: str
    core: EmulatedCore


@dataclass(frozen=True)
class Counted:
    """Millions of instructions and the largest error of a run; ours by the kind of its calls, and of its prologue."""

    minsn: float
    max_err: float
    prologue: float = 0.0
    kinds: tuple[tuple[str, float], ...] = ()


def small(name: str, blocks: int) -> BenchModel:
    """The model ``name`` with so many blocks, for videos of the module's size; raises ConfigError for another name."""
    model = bench_model(name, blocks, PIXELS)
    channels, _, *places = model.latent
    sampler = {**model.sampler, "frames": FRAMES}
    return replace(model, sampler=sampler, latent=(channels, FRAMES, places[0], places[1]))


def step_line(name: str, blocks: int, on: StepCore, cache: Path = CACHE) -> dict[str, object]:
    """Build the model ``name``, run everyone, and give the JSON line's fields; details go to stderr."""
    model, found = small(name, blocks), {}
    with temporary_folder("arm-step") as folder:
        files = StepFiles(folder)
        library = prepare(model, files.folder, 1, on.target)
        exact, _ = run_contender(REFERENCE, files, 1, 1)
        found["ours"] = count_ours(library, files, on, exact)
        _tell("ours", found["ours"], step_macs(model))
        for kind in ("int8", "fp32"):
            peer = f"onnxruntime_{kind}"
            found[peer] = count_peer(files, kind, on.core, exact, cache)
            _tell(peer, found[peer], step_macs(model))
    ours = found.pop("ours")
    return {
        "model": name,
        "blocks": blocks,
        "tokens": prod(patches(model)),
        "cpu": load_target(on.target).cpu,
        "ours_minsn": round(ours.minsn, 1),
        "ours_prologue_minsn": round(ours.prologue, 1),
        "ours_step_minsn": round(ours.minsn - ours.prologue, 1),
        "ours_max_err": float(f"{ours.max_err:.3g}"),
        "insn_per_mac": round(ours.minsn * 1e6 / step_macs(model), 4),
        "kinds": {kind: round(minsn, 1) for kind, minsn in ours.kinds},
        "peers": {
            peer: {"minsn": round(each.minsn, 1), "max_err": float(f"{each.max_err:.3g}")}
            for peer, each in found.items()
        },
    }


def count_ours(library: GroupLibrary, files: StepFiles, on: StepCore, exact: Array) -> Counted:
    """Of the bundle in ``files``, as a static program; raises BuildError when it does not run."""
    target, folder = load_target(on.target), files.folder / "counted"
    folder.mkdir()
    (folder / "main.c").write_text(_PROGRAM)
    link_static(static_files([library], target, folder), target, folder / "main.c", folder / "count")
    inputs = np.load(files.inputs)
    paths = [folder / name for name in ("z", "y", "mask")]
    for path in paths:
        path.write_bytes(np.ascontiguousarray(inputs[path.name], np.float32).tobytes())
    names = [folder / "count", files.bundle, *paths, folder / "result"]
    parts = executed_parts([str(path) for path in names], on.core.qemu_cpu, folder)
    calls, kinds = described(library.packed), Counter[str]()
    for kind, count in zip([*(call.kind for call in calls), BETWEEN], parts, strict=True):
        kinds[kind] += count
    prologue = sum(parts[: int(inputs["prologue"])])
    velocity = np.fromfile(folder / "result", np.float32).reshape(-1, *exact.shape[1:])
    millions = tuple((kind, count / 1e6) for kind, count in kinds.most_common())
    return Counted(sum(parts) / 1e6, _error(velocity, exact), prologue / 1e6, millions)


def count_peer(files: StepFiles, kind: str, core: EmulatedCore, exact: Array, cache: Path) -> Counted:
    """onnxruntime's on the export ``kind``; raises as `tvm_flow.bench.foreign_run.run_foreign` does."""
    inputs, graph = np.load(files.inputs), files.graph(kind)
    (out,) = onnx.load(graph, load_external_data=False).graph.output
    shape = tuple(axis.dim_value for axis in out.type.tensor_type.shape.dim)
    feeds = {name: inputs[name].astype(np.float32) for name in ("z", "y", "mask")}
    count, velocity = run_foreign(graph, feeds, Output(out.name, shape, "float32"), core, cache)
    return Counted(count / 1e6, _error(velocity, exact))


def _error(velocity: Array, exact: Array) -> float:
    """A learned variance, the channels past ``exact``'s, is left out."""
    return float(np.abs(velocity[: len(exact)] - exact).max())


def _tell(name: str, counted: Counted, macs: int) -> None:
    text = f"{counted.minsn:.0f} M instructions, {counted.minsn * 1e6 / macs:.4f} per MAC"
    print(f"{name:>16}: {text}, max error {counted.max_err:.2g}", file=sys.stderr, flush=True)
    for kind, minsn in counted.kinds:
        print(f"{'':>18}{kind}: {minsn:.1f} M", file=sys.stderr, flush=True)
