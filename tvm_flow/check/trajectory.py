"""The check of a whole trajectory: that the right tensors meet the right kernels, in the right order, at every step.

`tvm_flow.check.calls` compares a kernel with the reference on whatever it was given. This follows the program beside
the trace: every tensor that a kernel reads must hold, bit for bit, what the program last wrote under that name, or the
latent, tokens and mask of this step and branch; every call must come, once and in order, those of a prologue before the
first step of a branch and wherever it comes to another group; what a prologue hands over must still be there at every
step after; and the latent of the next step must be the one that guidance and the sampler's update give, as
`tvm_flow.sampler.update` states them. The first and the last velocity of every group are also held against onnx's own
evaluator on the exported graph, which shares no code with the import: see `LEAST_AGREEMENT_DB`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tvm_flow.check.calls import (
    Array,
    ExactnessReport,
    calls_of_run,
    members_of,
    require_same_bits,
)
from tvm_flow.check.names import require_names_apart
from tvm_flow.check.onnx_evaluator import evaluate_graph
from tvm_flow.check.sampling import CallCheck
from tvm_flow.errors import BitExactError
from tvm_flow.export import Exported
from tvm_flow.graph.program import Program
from tvm_flow.numerics.metrics import sqnr_db
from tvm_flow.pack import Contents, Prompt
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import TracedCall
from tvm_flow.sampler import Guidance, seeded_noise
from tvm_flow.sampler import next_latent as sampler_update
from tvm_flow.sampler.update import SIGMA

LEAST_AGREEMENT_DB = 25.0
"""Between a compiled velocity and onnx's evaluation of its graph.

One code at a rounding tie that falls the other way shifts all that follows by a part of a quantization step, so two
right evaluations agree to what int8 costs at worst. Chosen, not derived: 36 dB was the least of four steps of the demo
that were tried on noise. A lost factor of two leaves 6 dB; finer errors are left to the tests, operator by operator.
"""


@dataclass
class TrajectoryCheck:
    """Give `see` every traced kernel call of one denoising run of ``contents``'s golden input, then call `finish`."""

    libraries: Sequence[GroupLibrary]
    contents: Contents
    report: ExactnessReport
    compare: Callable[..., None] = field(default_factory=lambda: CallCheck(None))
    steps: int = 0
    """How many of the first steps are run; 0 for all."""
    position: int = 0
    call: int = 0
    tensors: dict[str, Array] = field(default_factory=dict)
    prompts: dict[int, dict[str, Array]] = field(default_factory=dict)
    """What the last prologue of a branch handed over."""
    velocities: dict[tuple[int, int], Array] = field(default_factory=dict)
    latents: dict[int, Array] = field(default_factory=dict)
    dropped: dict[int, list[list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for library in self.libraries:
            require_names_apart(library.packed)
        self.members = members_of(self.libraries)
        self.steps = self.steps or self.contents.steps
        self.runs = [(s, b) for s in range(self.steps) for b in range(self.contents.branches)]
        self.latents[0] = self.contents.golden.noise

    @property
    def expected_calls(self) -> int:
        """Kernel calls of the whole trajectory."""
        return sum(len(calls_of_run(self.members, *run)) for run in self.runs)

    def see(self, seen: TracedCall) -> None:
        """Compare one call; raises BitExactError when it is not the next one, or reads what it should not."""
        run = self.runs[self.position] if self.position < len(self.runs) else None
        if (seen.step, seen.branch) != run or seen.call != self.call:
            raise BitExactError(
                f"trace: expected call {self.call} of step and branch {run}, got call {seen.call} of step {seen.step}, "
                f"branch {seen.branch}. The library must not ship: report this graph and target"
            )
        packed = self.members[run][0].packed
        program = packed.program
        self.start(program, run, seen.call)
        planned = program.calls[seen.call]
        where = f"step {seen.step}, branch {seen.branch}, call {seen.call}, kernel {seen.kernel}"
        if seen.kernel != planned.kernel:
            raise BitExactError(f"{where}: expected kernel {planned.kernel}; report this graph and target")
        for name, got in zip(planned.args, seen.args, strict=False):
            if name in self.tensors:
                require_same_bits(f"{where}, tensor {name}", self.tensors[name], got)
            elif name not in packed.constants:
                raise BitExactError(f"{where}: expected tensor {name} to be written before it is read; report this")
        self.compare(seen, self.members, self.report)
        self.tensors[planned.output] = seen.args[-1].copy()
        for name in self.last_reads(program)[seen.call]:
            self.tensors.pop(name, None)
        self.call += 1
        if self.call == program.prologue:
            self.prompts[seen.branch] = {name: self.tensors[name] for name in program.kept()}
        if self.call == len(program.calls):
            self.velocities[run] = self.tensors[program.output]
            self.end_of_run(run[0])

    def last_reads(self, program: Program) -> list[list[str]]:
        """For every call of ``program`` the tensors that nothing reads after it: all of a step fill a machine."""
        if id(program) not in self.dropped:
            last = {name: index for index, call in enumerate(program.calls) for name in (call.output, *call.args)}
            last.pop(program.output)
            by_call: list[list[str]] = [[] for _ in program.calls]
            for name, index in last.items():
                by_call[index].append(name)
            self.dropped[id(program)] = by_call
        return self.dropped[id(program)]

    def start(self, program: Program, run: tuple[int, int], call: int) -> None:
        """At the first call of a part, what it finds: inputs, and for the step what the prologue handed over."""
        inputs = dict(zip(program.graph.inputs, self.inputs(*run), strict=True))
        if call == program.prologue:
            self.tensors = inputs | (self.prompts[run[1]] if program.prologue else {})
        elif call == 0:
            latent, *_ = program.graph.inputs
            self.tensors = {name: value for name, value in inputs.items() if name != latent}

    def inputs(self, step: int, branch: int) -> tuple[Array, Array, Array]:
        """Latent, tokens and mask that the graph of a step and branch must be given."""
        prompt: Prompt = (self.contents.golden.cond, self.contents.golden.uncond)[branch]
        return self.latents[step], prompt.tokens, prompt.mask

    def end_of_run(self, step: int) -> None:
        """Go to the next run; after the last branch of a step, make the next latent."""
        self.position += 1
        if self.position < len(self.runs):
            self.call = calls_of_run(self.members, *self.runs[self.position]).start
        branches = self.contents.branches
        if self.position % branches == 0:
            velocities = [self.velocities[step, branch] for branch in range(branches)]
            self.latents[step + 1] = next_latent(self.latents[step], velocities, self.contents, step)

    def finish(self, latents: Array) -> None:
        """Raises BitExactError when calls are missing or ``latents`` are not those of the last update."""
        seen = self.report.calls + self.report.followed
        if seen != self.expected_calls:
            raise BitExactError(f"trace: expected {self.expected_calls} kernel calls, got {seen}; report this graph")
        require_same_bits("latents of the last step", self.latents[self.steps], latents)

    def agreement_db(self, exported: Exported) -> float:
        """The least agreement with onnx's evaluator, dB, over the first and last variant of every group.

        Raises BitExactError below `LEAST_AGREEMENT_DB`.
        """
        ends = {member for library in self.libraries for member in (library.members[0], library.members[-1])}
        return min(self._agreement(exported, member) for member in sorted(ends))

    def _agreement(self, exported: Exported, member: tuple[int, int]) -> float:
        step, branch = member
        path = exported.graphs[step][branch]
        inputs = dict(zip(("z", "y", "mask"), self.inputs(step, branch), strict=True))
        expected = evaluate_graph(path, inputs)
        agreement = sqnr_db(expected, self.velocities[member])
        if not agreement >= LEAST_AGREEMENT_DB:
            raise BitExactError(
                f"{path.name}: expected the compiled velocity within {LEAST_AGREEMENT_DB:g} dB of onnx's evaluation, "
                f"got {agreement:.1f} dB. The library must not ship: report this graph and target"
            )
        return agreement


def next_latent(z: Array, velocities: Sequence[Array], contents: Contents, step: int) -> Array:
    """The sampler's update as the C runtime computes it for the golden input, whose noise has the seed 0."""
    row = contents.updates[step]
    fresh = seeded_noise(0, step + 1, z.shape) if row[SIGMA] else None
    guidance = Guidance(contents.cfg_scale, contents.guided_channels)
    return sampler_update(z, tuple(velocities), row, guidance, fresh)


def figures(check: TrajectoryCheck, agreement_db: float | None) -> Mapping[str, float | int | None]:
    """What a report says of a finished check; ``agreement_db`` is None where onnx did not evaluate any graph."""
    return check.report.as_dict() | {
        "expected_calls": check.expected_calls,
        "onnx_agreement_db": None if agreement_db is None else round(agreement_db, 1),
    }
