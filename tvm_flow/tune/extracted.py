"""The kernels of an export that can be tuned: those of all step groups and of the decoder, each workload once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tvm_flow.backends.cpu.spaces import space
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.backends.place import place
from tvm_flow.check.decoding import chunks_of
from tvm_flow.export import Exported
from tvm_flow.export.decoder_file import load_decoder
from tvm_flow.graph.constants import Array, evaluate
from tvm_flow.importer.step_groups import import_graph, import_steps
from tvm_flow.lower.partition import partition
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.search import Task
from tvm_flow.tune.workloads import METHOD, candidate_of, in_words, key_of, workload_hash

_DTYPES = {"float32": np.float32, "int8": np.int8, "int32": np.int32, "uint8": np.uint8, "int64": np.int64}


@dataclass(frozen=True)
class TunedKernel:
    """A task, the first program that its kernel was found in, and that program's constants."""

    task: Task
    packed: PackedProgram
    kernel: str
    given: Mapping[str, Array]

    def arguments(self, seed: int) -> list[Array]:
        """Of a call: constants as they are, everything else drawn; the last one is the output.

        An even ``seed`` draws floats around zero, an odd one above zero, for kernels that take roots.
        """
        program = self.packed.program
        call = program.calls[self.call]
        rng = np.random.default_rng(seed)
        found = [
            evaluate(self.packed.constants[name], self.given)
            if name in self.packed.constants
            else _drawn(program.tensors[name].shape, program.tensors[name].dtype, rng, seed % 2 == 1)
            for name in call.args
        ]
        output = program.tensors[call.output]
        return [np.array(each, order="C") for each in found] + [np.empty(output.shape, _DTYPES[output.dtype])]

    @property
    def call(self) -> int:
        """The first call of the kernel, by position in its program."""
        return next(i for i, call in enumerate(self.packed.program.calls) if call.kernel == self.kernel)


def tuned_kernels(
    exported: Exported,
    target: TargetSpec,
    threads: int,
    wanted: Callable[[str], bool],
    progress: bool = True,
    method: str = METHOD,
) -> list[TunedKernel]:
    """Of ``exported``, those whose words or names are ``wanted``; raises ImportGraphError or BuildError."""
    found: dict[str, TunedKernel] = {}
    for packed, given, counts in _programs(exported, target, progress):
        for kernel, calls in counts.items():
            label, workload = in_words(packed, kernel), workload_hash(packed, kernel)
            if workload in found:
                task = found[workload].task
                found[workload] = replace(found[workload], task=replace(task, calls=task.calls + calls))
            elif wanted(f"{kernel} {label}") and (choices := space(packed, kernel)):
                key = key_of(workload, target, threads, method)
                task = Task(key, label, tuple(map(candidate_of, choices)), calls, _work(packed, kernel))
                found[workload] = TunedKernel(task, packed, kernel, given)
    return list(found.values())


def _programs(
    exported: Exported, target: TargetSpec, progress: bool
) -> Iterable[tuple[PackedProgram, Mapping[str, Array], Counter[str]]]:
    """Each program, constants of one of its members, and how often its kernels run in a whole video."""
    for group in import_steps(exported.graphs, progress):
        packed = place(partition(group.graph), target)
        branches = len({branch for _, branch in group.members})
        yield packed, group.given[0], _counts(packed, len(group.members), branches)
    decoder = load_decoder(exported.folder)
    if decoder is not None:
        graph = import_graph(decoder.graph)
        chunks = len(chunks_of(decoder, exported.latent[1]))
        yield (packed := place(partition(graph), target)), graph.given, _counts(packed, chunks, 1)


def _work(packed: PackedProgram, kernel: str) -> int:
    """Multiplications of a product, elements of all arguments of another kernel."""
    if (product := packed.products.get(kernel)) is not None:
        return product.m * product.k * product.n
    program = packed.program
    call = next(call for call in program.calls if call.kernel == kernel)
    return sum(math.prod(program.tensors[name].shape) for name in (*call.args, call.output) if name in program.tensors)


def _counts(packed: PackedProgram, runs: int, prologues: int) -> Counter[str]:
    program, counts = packed.program, Counter[str]()
    for index, call in enumerate(program.calls):
        counts[call.kernel] += prologues if index < program.prologue else runs
    return counts


def _drawn(shape: tuple[int, ...], dtype: str, rng: np.random.Generator, positive: bool) -> Array:
    if dtype == "float32":
        drawn = rng.standard_normal(shape).astype(np.float32)
        return np.abs(drawn) + np.float32(0.125) if positive else drawn
    low, high = {"int8": (-128, 127), "uint8": (0, 255)}.get(dtype, (-1000, 1000))
    return rng.integers(low, high + 1, shape).astype(_DTYPES[dtype])
