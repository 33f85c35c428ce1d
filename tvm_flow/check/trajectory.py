"""The check of a whole trajectory, followed call by call: see `tvm_flow.check.follow`.

Besides, the latent of the next step must be the one that guidance and the sampler's update give, as
`tvm_flow.sampler.update` states them. The first and the last velocity of every group are also held against onnx's own
evaluator on the exported graph, which shares no code with the import: see `LEAST_AGREEMENT_DB`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tvm_flow.check.calls import Array, ExactnessReport, members_of, require_same_bits
from tvm_flow.check.follow import FollowedRuns, Run
from tvm_flow.check.onnx_evaluator import evaluate_graph
from tvm_flow.check.parts import Part
from tvm_flow.check.sampling import CallCheck
from tvm_flow.errors import BitExactError
from tvm_flow.export import Exported
from tvm_flow.numerics.metrics import sqnr_db
from tvm_flow.pack import Contents, Prompt
from tvm_flow.plan.folds import Floats
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.sampler import Guidance, seeded_noise
from tvm_flow.sampler import next_latent as sampler_update
from tvm_flow.sampler.update import SIGMA

LEAST_AGREEMENT_DB = 25.0
"""Between a compiled velocity and onnx's evaluation of its graph.

One code at a rounding tie that falls the other way shifts all that follows by a part of a quantization step, so two
right evaluations agree to what int8 costs at worst. Chosen, not derived: 36 dB was the least of four steps of the demo
that were tried on noise. A lost factor of two leaves 6 dB; finer errors are left to the tests, operator by operator.
"""


class TrajectoryCheck(FollowedRuns):
    """One denoising run of ``contents``'s golden input, or its first ``steps`` (all: None)."""

    part = Part.GENERATE

    def __init__(
        self,
        libraries: Sequence[GroupLibrary],
        contents: Contents,
        report: ExactnessReport,
        compare: CallCheck | None = None,
        steps: int | None = None,
    ) -> None:
        self.libraries, self.contents = libraries, contents
        self.steps = contents.steps if steps is None else steps
        self.stops_early = self.steps < contents.steps
        self.velocities: dict[Run, Array] = {}
        self.latents: dict[int, Array] = {0: contents.golden.noise}
        runs = [(step, branch) for step in range(self.steps) for branch in range(contents.branches)]
        super().__init__(members_of(libraries), runs, report, compare or CallCheck(None))

    def where(self, step: int, branch: int) -> str:
        """A step and branch in words."""
        return f"step {step}, branch {branch}"

    def inputs(self, step: int, branch: int) -> tuple[Array, ...]:
        """Latent, tokens and mask that the graph of a step and branch must be given."""
        prompt: Prompt = (self.contents.golden.cond, self.contents.golden.uncond)[branch]
        return self.latents[step], prompt.tokens, prompt.mask

    def end_of_run(self, run: Run, output: Array) -> None:
        """Keep the velocity; after the last branch of a step, make the next latent."""
        self.velocities[run] = output
        step, branches = run[0], self.contents.branches
        if self.position % branches == 0:
            velocities = [self.velocities[step, branch] for branch in range(branches)]
            self.latents[step + 1] = next_latent(self.latents[step], velocities, self.contents, step)

    def require_result(self, result: Floats) -> None:
        """``result`` are the latents of the last update."""
        require_same_bits("latents of the last step", self.latents[self.steps], result)

    def first_steps(self) -> Contents:
        """Contents whose golden output is what this check computed itself for the steps that it followed."""
        latents = self.latents[self.steps]
        return replace(self.contents, golden=replace(self.contents.golden, latents=latents, steps=self.steps))

    def agreement_db(self, exported: Exported) -> float:
        """The least agreement with onnx's evaluator, dB, over the first and last variant of every group.

        Raises BitExactError below `LEAST_AGREEMENT_DB`.
        """
        ends = {member for library in self.libraries for member in (library.members[0], library.members[-1])}
        return min(self._agreement(exported, member) for member in sorted(ends))

    def _agreement(self, exported: Exported, member: Run) -> float:
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
