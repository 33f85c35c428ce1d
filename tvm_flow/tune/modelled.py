"""Time of a candidate on a core that is not there: a model, which no measurement is ever taken for.

    cycles = sum over blocks of count * cycles      counts: `counted`, of a real call; cycles: `core_cycles`, llvm-mca
             + loads that miss                      `cache_lines`, `float_lines`
    time   = cycles * ceil(tasks / threads) / tasks where a kernel runs on several threads

The call is run on this machine or under qemu and its output compared as that of a measured candidate is, so a modelled
record is as exact as any. Left out: what waking a thread costs, so that candidates have threads where the default has;
branches that are mispredicted; and all that LLVM's description of a core does not say.

How its ranking compares with measured ranking on this machine, `scripts/bench tuning` says. Cycles of the inner loop
alone, as this module once had them, said nothing: what follows a product takes half of its instructions at the demo's
shapes, and changes with the tile too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tvm_flow.backends.cpu.choices import Choice, ProductChoice
from tvm_flow.backends.cpu.isa import Sums
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.spaces import default_choice
from tvm_flow.check.kernels import assembly
from tvm_flow.check.machines import machine_of
from tvm_flow.graph.constants import Array
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.target.board import detect_board
from tvm_flow.target.spec import TargetSpec
from tvm_flow.target.target_names import HOST
from tvm_flow.tune.cache_lines import cache_cycles, waiting
from tvm_flow.tune.core_cycles import block_cycles, find_mca
from tvm_flow.tune.counted import TIMEOUT, Block, count_blocks
from tvm_flow.tune.extracted import TunedKernel
from tvm_flow.tune.float_lines import loads_of
from tvm_flow.tune.workloads import choices_of, scheduled

LEAST_PART = 1 / 2000
"""Of a call's instructions: blocks that execute fewer are not looked at."""


@dataclass
class CoreModel:
    """Of ``target``'s core, ``threads`` of which run a kernel; raises BuildError where llvm-mca or qemu lack."""

    target: TargetSpec
    threads: int
    _known: dict[tuple[str, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._mca = find_mca()
        self._prefix: Sequence[str] = machine_of(self.target).command
        self._board = detect_board() if self.target.name == HOST else self.target.board

    def time(
        self, kernel: TunedKernel, candidate: str, args: Sequence[Array], folder: Path, timeout: float = TIMEOUT
    ) -> tuple[float, Array]:
        """Cycles until a call of ``candidate`` with ``args`` is over, and its output.

        Raises BuildError, also where the call takes more than ``timeout`` seconds here.
        """
        function = scheduled(kernel.packed, kernel.kernel, candidate).with_attr("global_symbol", "k")
        with interrupts_kept():
            text = assembly("k", function, self.target)
        ran, output = count_blocks(text, args, self.target, folder, self._prefix, timeout)
        cycles, product, choice = self._core(ran), kernel.packed.products.get(kernel.kernel), _choice(kernel, candidate)
        if product is not None and isinstance(choice, ProductChoice):
            cycles += cache_cycles(product, choice, self._board)
            return cycles * busiest_share(product, choice, self.threads), output
        loads = loads_of(kernel.packed, kernel.kernel, choice)
        cycles += waiting(loads.missed, self._board)
        return cycles * math.ceil(loads.tasks / self.threads) / loads.tasks, output

    def _core(self, ran: Sequence[tuple[Block, int]]) -> float:
        whole = sum(count * len(block.lines) for block, count in ran)
        kept = [(block.lines, count) for block, count in ran if count * len(block.lines) >= whole * LEAST_PART]
        new = list(dict.fromkeys(lines for lines, _ in kept if lines not in self._known))
        self._known |= dict(zip(new, block_cycles(new, self.target, self._mca), strict=True)) if new else {}
        return sum(count * self._known[lines] for lines, count in kept)


def busiest_share(product: Product, choice: ProductChoice, threads: int) -> float:
    """Part of a call's work that the busiest of ``threads`` does."""
    if not choice.parallel:
        return 1.0
    groups = product.m // (choice.rows * choice.tiles)
    strips = max(product.n // (product.isa.columns * choice.blocks), 1)
    tasks = groups * (choice.parts if product.isa.sums is Sums.WIDENED else strips)
    return math.ceil(tasks / threads) / tasks


def rank_correlation(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Spearman's, over the keys that both have; ties get their mean rank; 0 where either has no order."""
    keys = sorted(one.keys() & other.keys())
    a, b = _ranks([one[key] for key in keys]), _ranks([other[key] for key in keys])
    n = len(keys)
    if n < 2:
        return 0.0
    middle = (n + 1) / 2
    above = sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True))
    below = (sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b)) ** 0.5
    return above / below if below else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    return [(sum(v < value for v in values) + sum(v <= value for v in values) + 1) / 2 for value in values]


def _choice(kernel: TunedKernel, candidate: str) -> Choice | None:
    found = choices_of(kernel.kernel, candidate).get(kernel.kernel)
    return found or default_choice(kernel.packed, kernel.kernel)
