"""Records where they count: the kernels of a program get the candidates that won, and every kernel says what it got.

A record is applied when its key is that of the kernel, its target, its features, its compilers and its method, and both
the candidate and the default are scheduled today to the code that was measured. Records of the same kernel that were
made otherwise are named, with what is other about them. Modelled records (`tvm_flow.tune.modelled`) count only for a
kernel of which nothing was measured on the target, whatever a measurement found.
"""

from __future__ import annotations

from collections import ChainMap, Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tvm_flow.backends.cpu.spaces import with_choices
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.plan.group import Tuning
from tvm_flow.target.spec import TargetSpec
from tvm_flow.tune.entries import DEFAULT, Entry
from tvm_flow.tune.ledger import read_ledger
from tvm_flow.tune.verdicts import MODEL, verdict
from tvm_flow.tune.workloads import METHOD, choices_of, code_hash, key_of, scheduled, workload_hash

_FIELDS = ("target", "features", "compilers")


@dataclass(frozen=True)
class Got:
    """What a kernel is built with: ``candidate`` (`DEFAULT`: the default), and in words why."""

    candidate: str
    why: str = ""
    modelled: bool = False
    """No measurement chose it, but a model of the core."""

    @property
    def tuned(self) -> bool:
        """Not the default."""
        return self.candidate != DEFAULT


@dataclass(frozen=True)
class Records:
    """All that is known, by workload."""

    by_workload: Mapping[str, Sequence[Entry]] = field(default_factory=dict)

    @classmethod
    def read(cls, *places: Path) -> Records:
        """Those of the stores ``places`` that count."""
        grouped: dict[str, list[Entry]] = defaultdict(list)
        for entry in read_ledger(*places).entries:
            grouped[entry.key.workload].append(entry)
        return cls(grouped)

    def digest(self, target: TargetSpec) -> list[str]:
        """What a compilation for ``target`` depends on: the candidates that won there, whatever was tried beside."""
        lines = []
        for workload, entries in sorted(self.by_workload.items()):
            won = _winner(workload, entries, target)
            if won.tuned:
                lines.append(f"{workload} {won.candidate}")
        return lines


NO_RECORDS = Records()


def with_records(packed: PackedProgram, target: TargetSpec, records: Records) -> tuple[PackedProgram, dict[str, Got]]:
    """``packed`` with the candidates that won, and what each kernel got of which there is any record."""
    found: dict[str, Got] = {}
    for kernel in packed.kernels_of(CPU) if records.by_workload else ():
        workload = workload_hash(packed, kernel)
        if workload in records.by_workload:
            found[kernel] = _checked(packed, kernel, records.by_workload[workload], target)
    choices = ChainMap(*(dict(choices_of(kernel, got.candidate)) for kernel, got in found.items()))
    return with_choices(packed, choices), found


def tuning_lines(counted: Iterable[tuple[Mapping[str, Tuning], Sequence[str]]]) -> list[str]:
    """For a person: how many kernels are tuned, default, or have records that did not win, with the reasons.

    Of each program, what its kernels got and the names of all of them.
    """
    tuned = default = modelled = 0
    reasons: Counter[str] = Counter()
    for got, kernels in counted:
        tuned += sum(each.tuned for each in got.values())
        modelled += sum(each.tuned and each.modelled for each in got.values())
        default += len(kernels) - len(got)
        reasons.update(each.why for each in got.values() if not each.tuned)
    if not tuned and not reasons:
        return []
    lost = sum(reasons.values())
    by_model = f" ({modelled} modelled, not measured)" if modelled else ""
    others = f"{default} default without records, {lost} default with records that did not win"
    return [
        f"{tuned} kernels tuned{by_model}, {others}",
        *(f"{count} by default: {why}" for why, count in reasons.most_common()),
    ]


def _checked(packed: PackedProgram, kernel: str, entries: Sequence[Entry], target: TargetSpec) -> Got:
    workload = entries[0].key.workload
    won = _winner(workload, entries, target)
    if not won.tuned:
        return won
    ours = _ours(workload, entries, target, MODEL if won.modelled else METHOD)
    entry = next(each for each in reversed(ours) if each.candidate == won.candidate and each.code)
    try:
        codes = tuple(code_hash(scheduled(packed, kernel, each)) for each in (won.candidate, DEFAULT))
    except BuildError as error:
        return Got(DEFAULT, str(error))
    if codes != (entry.code, entry.default_code):
        return Got(DEFAULT, "this version schedules the kernel otherwise than the one that was measured; tune again")
    return won


def _winner(workload: str, entries: Sequence[Entry], target: TargetSpec) -> Got:
    """By the records of the most threads that there are for ``target``; modelled ones where none was measured."""
    for method in (METHOD, MODEL):
        if ours := _ours(workload, entries, target, method):
            most = max(_threads(entry) for entry in ours)
            found = verdict(entry for entry in ours if _threads(entry) == most)
            return Got(found.candidate, found.why, method == MODEL)
    return Got(DEFAULT, _foreign(workload, entries, target))


def _ours(workload: str, entries: Iterable[Entry], target: TargetSpec, wanted: str) -> list[Entry]:
    found = []
    for entry in entries:
        method, _, threads = entry.key.method.partition(" threads=")
        if method == wanted and threads.isdigit() and entry.key == key_of(workload, target, int(threads), method):
            found.append(entry)
    return found


def _threads(entry: Entry) -> int:
    return int(entry.key.method.partition(" threads=")[2])


def _foreign(workload: str, entries: Sequence[Entry], target: TargetSpec) -> str:
    """What is other about records of the same kernel."""
    ours, theirs = key_of(workload, target, 1), [entry.key for entry in entries]
    for name in _FIELDS:
        if all(getattr(key, name) != getattr(ours, name) for key in theirs):
            return f"its records are of other {name}: {getattr(theirs[0], name)}"
    return f"its records were measured by another method: {theirs[0].method}"
