"""What a package of any device says: the calls of its steps and their regions, what is outside, what clusters cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tvm_flow.backends.npu.package_call import PackageCall
from tvm_flow.compile.step_clusters import ClusterChoice, Sharing
from tvm_flow.compile.step_members import Member, PackageOptions, Place
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array, evaluate
from tvm_flow.graph.program import KernelCall
from tvm_flow.plan.coverage import kernel_macs


@dataclass
class Work:
    """Multiply-adds of calls inside, and of those outside by the reason."""

    inside: int = 0
    outside: Counter[str] = field(default_factory=Counter)

    def lines(self, device: str) -> Iterator[str]:
        """For a person."""
        whole = self.inside + sum(self.outside.values())
        yield f"{device} runs {self.inside / whole:.1%} of the MACs"
        for reason, macs in self.outside.most_common():
            yield f"outside: {macs / whole:.1%} of the MACs: {reason}"


Scales = tuple[float, float]
Region = Callable[[Member, KernelCall, Mapping[int, Array]], tuple[str, Scales]]
"""The name of a call's region and what codes of its first input and output stand for, its constants by position; raises
BuildError for a call that stays outside.
"""


@dataclass
class Packaged:
    """What was packaged: calls in order, what is outside, and what numbers of clusters cost."""

    device: str
    steps: tuple[int, ...]
    calls: list[PackageCall] = field(default_factory=list)
    work: Work = field(default_factory=Work)
    choices: tuple[ClusterChoice, ...] = ()

    def place(
        self, sharing: Sharing, options: PackageOptions, region: Region, compiled: Callable[[], Mapping[str, int]]
    ) -> None:
        """Note the calls of every step and what clusters cost; ``compiled`` makes the regions, and gives their bytes.

        Raises BuildError for clusters that do not fit.
        """
        clusters, names = sharing.clusters(options.clusters), dict[Place, str]()
        for member in sharing.joined(clusters):
            for call, (name, scales) in _region_calls(member, region, self.work):
                names.setdefault(member.place(call), name)
                step = self.steps[member.position]
                self.calls.append(PackageCall(call.kernel, name, step, member.branch, *scales))
        sizes = compiled()
        self.choices = sharing.choices(clusters, {place: sizes[name] for place, name in names.items()})

    @property
    def of_calls(self) -> str:
        """How many, of how many steps."""
        return f"{self.device}: {len(self.calls)} calls of {len(self.steps)} step{'s' if len(self.steps) > 1 else ''}"


def _region_calls(member: Member, region: Region, work: Work) -> Iterator[tuple[KernelCall, tuple[str, Scales]]]:
    """The calls of a step that are a ``region``, and that; what has multiply-adds is counted in ``work``."""
    program, known = member.program, member.program.graph.constants
    for index, call in enumerate(program.calls):
        macs = kernel_macs(program.kernels[call.kernel])
        if not macs:
            continue
        if index < program.prologue:
            work.outside["the prologue, which runs once for a prompt"] += macs
            continue
        constants = {i: evaluate(known[name], member.given) for i, name in enumerate(call.args) if name in known}
        try:
            made = region(member, call, constants)
        except BuildError as error:
            work.outside[str(error)] += macs
            continue
        work.inside += macs
        yield call, made
