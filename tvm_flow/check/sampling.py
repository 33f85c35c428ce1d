"""Which kernel calls of a trajectory are compared with the integer reference.

All of them, unless that would take hours: the reference is numpy in float64, and one step of an XL/2 model writes 16
billion elements. Then only the first step is run, and every kernel is compared on some of its calls there, drawn by a
seed; every call of it is still followed, in order and tensor by tensor, and every constant that any of them reads is
still compared bit for bit. The constants of the other steps were compared when their folds were made
(`tvm_flow.plan.tables`), so that a hundred steps take no longer than one. onnx's own evaluation of a graph is left
out then: it takes an hour. What was compared and what only followed is counted in the report, which the bundle's
manifest keeps.

    auto      all calls when the trajectory writes at most `MOST_ELEMENTS`, else `AUTO_CALLS` of every kernel
    all       all calls
    a number  so many calls of every kernel
    none      nothing runs: for a target that no machine at hand can check; the bundle says so and is refused as it is
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tvm_flow.check.calls import ExactnessReport, Members, check_constants, check_traced
from tvm_flow.check.sums import Sums
from tvm_flow.errors import ConfigError
from tvm_flow.plan.group import GroupLibrary
from tvm_flow.run import TracedCall

Place = tuple[int, int, int]
"""Step, branch and call."""

MOST_ELEMENTS = 1 << 31
"""Some minutes of the reference; the demo's trajectory writes a tenth of it."""
AUTO_CALLS = 1
SAMPLED_STEPS = 1
"""Steps that are run when calls are sampled; the golden output is that of as many."""
SEED = 20260102


@dataclass(frozen=True)
class Automatic:
    """All calls of a small model, `AUTO_CALLS` of every kernel of a large one."""

    def __str__(self) -> str:
        return "auto"


@dataclass(frozen=True)
class All:
    """Every call."""

    def __str__(self) -> str:
        return "all"


@dataclass(frozen=True)
class PerKernel:
    """``calls`` of every kernel, at least 1."""

    calls: int

    def __str__(self) -> str:
        return str(self.calls)


@dataclass(frozen=True)
class Unchecked:
    """No call: nothing is run."""

    def __str__(self) -> str:
        return "none"


Compared = Automatic | All | PerKernel
CheckCalls = Compared | Unchecked
"""Which calls are compared; its text is what `parse_check` reads."""


@dataclass(frozen=True)
class CallCheck:
    """Compare the calls in ``chosen``, or all of them when it is None; ``sums`` is `check_traced`'s."""

    chosen: frozenset[Place] | None
    sums: Sums | None = None

    @property
    def steps(self) -> int | None:
        """Steps to run; None for all."""
        return None if self.chosen is None else SAMPLED_STEPS

    def __call__(self, seen: TracedCall, members: Members, report: ExactnessReport, where: str = "") -> None:
        """Raises BitExactError as `check_traced` does."""
        if self.chosen is None or (seen.step, seen.branch, seen.call) in self.chosen:
            check_traced(seen, members, report, self.sums, where)
            return
        library, variant = members[seen.step, seen.branch]
        where = where or f"step {seen.step}, branch {seen.branch}"
        check_constants(library.packed, seen.call, seen.args, library.given[variant], where, report)
        report.followed += 1


def parse_check(text: str) -> CheckCalls:
    """What to compare, from a command line; raises ConfigError."""
    named: dict[str, CheckCalls] = {"auto": Automatic(), "all": All(), "none": Unchecked()}
    if text in named:
        return named[text]
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(
            f"check: expected auto, all, none, or a number of calls of every kernel, got {text!r}; choose one"
        )
    return PerKernel(int(text))


def choose_calls(members: Members, asked: Compared, sums: Sums | None = None) -> CallCheck:
    """The check of the runs that ``members`` lists: steps and branches, or chunks."""
    if isinstance(asked, Automatic):
        small = written_elements([library for library, _ in members.values()]) <= MOST_ELEMENTS
        asked = All() if small else PerKernel(AUTO_CALLS)
    if isinstance(asked, All):
        return CallCheck(None, sums)
    places: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for (step, branch), (library, _) in sorted(members.items(), key=lambda run: run[0]):
        if step >= SAMPLED_STEPS:
            continue
        for index, call in enumerate(library.packed.program.calls):
            places[library.path.name, call.kernel].append((step, branch, index))
    chosen: set[Place] = set()
    for kernel, all_places in places.items():
        rng = np.random.default_rng([SEED, zlib.crc32("/".join(kernel).encode())])
        picked = rng.permutation(len(all_places))[: asked.calls]
        chosen |= {all_places[int(i)] for i in picked}
    return CallCheck(frozenset(chosen), sums)


def written_elements(runs: Sequence[GroupLibrary]) -> int:
    """Elements that the calls of ``runs`` write."""
    sizes: dict[int, int] = {}
    for library in runs:
        program = library.packed.program
        if id(library) not in sizes:
            sizes[id(library)] = sum(prod(program.tensors[call.output].shape) for call in program.calls)
    return sum(sizes[id(library)] for library in runs)
