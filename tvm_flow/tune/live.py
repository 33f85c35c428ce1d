"""What a person sees while kernels are tuned: a bar over the budget, and beside it what was won.

    product 128x96x384: 40%|####      | 103/256 [02:10<03:15] best 1.087 x the default, 2.3 % of the kernels' time won

The bar counts trials, or seconds where minutes are given, so its own clock says what is left. ``won`` are the lower
bounds of what was confirmed, weighted by each kernel's part of the time of all that are tuned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from tqdm import tqdm

from tvm_flow.tune.verdicts import Verdict

Say = Callable[[str], None]


def won_share(weights: Mapping[str, float], verdicts: Mapping[str, Verdict]) -> float:
    """Part of the kernels' time that ``verdicts`` save at least; both by workload, weights are the defaults' times."""
    whole = sum(weights.values())
    saved = sum(
        weights[workload] * (1 - 1 / found.best.low)
        for workload, found in verdicts.items()
        if found.tuned and workload in weights
    )
    return saved / whole if whole else 0.0


@dataclass
class Live:
    """The display; ``say`` is given lines where there is no bar (``shown`` is False)."""

    say: Say
    total: float
    unit: str
    shown: bool = True
    best: float = 1.0
    won: float = 0.0
    _bar: tqdm[NoReturn] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._bar = tqdm(total=round(self.total), unit=self.unit, disable=not self.shown)

    def line(self, text: str) -> None:
        """A line above the bar."""
        if self.shown:
            tqdm.write(text, file=sys.stdout)
        else:
            self.say(text)

    def kernel(self, label: str) -> None:
        """The next one is searched."""
        self.best = 1.0
        self._bar.set_description_str(label, refresh=False)
        self._told()

    def at(self, done: float, best: float) -> None:
        """So many trials or seconds are over, and the kernel's best candidate is ``best`` x as fast as its default."""
        self.best = best
        self._bar.update(max(min(round(done), round(self.total)) - self._bar.n, 0))
        self._told()

    def gained(self, won: float) -> None:
        """What `won_share` says now."""
        self.won = won
        self._told()

    def close(self) -> None:
        """Leave the bar where it is."""
        self._bar.close()

    def _told(self) -> None:
        words = f"best {self.best:.3f} x the default, {self.won:.1%} of the kernels' time won"
        self._bar.set_postfix_str(words)
