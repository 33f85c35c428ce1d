"""Which candidate of a kernel won, by all records of it that count: worked out from samples, every time anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tvm_flow.tune.entries import DEFAULT, Entry, Key, Kind
from tvm_flow.tune.statistics import FEWEST_PAIRS, IMPLAUSIBLE, NO_GAIN, Interval, interval, ratios, spread

NOISIEST = 0.25
"""Spread of candidate 0's samples above which nothing that was measured beside them can be told apart."""

MODEL = "modelled-1"
"""Version of `tvm_flow.tune.modelled`, in the place of a method: what is measured is never held against it."""
LEAST_MODELLED = 1.05
"""What a model must say of a candidate, as no interval says how far it is wrong: default / candidate."""


@dataclass(frozen=True)
class Verdict:
    """``candidate`` is `DEFAULT` when nothing won; ``why`` says it in words. ``best`` is the interval of either."""

    candidate: str
    best: Interval
    why: str
    trials: int = 0
    entry: Entry | None = None

    @property
    def tuned(self) -> bool:
        """Something won."""
        return self.candidate != DEFAULT

    @property
    def modelled(self) -> bool:
        """It is a model that says so, and no measurement."""
        return self.entry is not None and self.entry.kind is Kind.MODELLED


def judge(entry: Entry) -> tuple[Interval, str]:
    """The interval of a record, and why it may not win; "" when it wins.

    The pairs of a final are two sets, one after the other: each must win by itself.
    """
    if entry.kind is Kind.MODELLED:
        return _modelled(entry)
    if entry.kind is not Kind.FINAL:
        return NO_GAIN, entry.cause or "it was not measured pairwise against the default"
    if not entry.exact:
        return NO_GAIN, "its output was not compared with the reference"
    half = len(entry.samples) // 2
    parts = (slice(half), slice(half, None)) if half >= FEWEST_PAIRS else (slice(None),)
    found = [interval(entry.baseline[part], entry.samples[part]) for part in parts]
    lower = min(found, key=lambda each: each.low)
    if spread(entry.baseline) > NOISIEST:
        return lower, f"the machine was too noisy: the default's own samples spread by {spread(entry.baseline):.0%}"
    if lower == NO_GAIN:
        pairs = ratios(entry.baseline, entry.samples)
        return lower, f"it left the finals early: {sum(each <= 1 for each in pairs)} of {len(pairs)} pairs were no gain"
    if not all(each.wins for each in found):
        return lower, f"it is not surely faster: default / candidate is {lower}"
    return lower, "" if len(parts) == 2 else "no second set of pairs confirmed it"


def _modelled(entry: Entry) -> tuple[Interval, str]:
    """Wins by what the model says, where only modelled records are asked: keys have its version for a method."""
    ratio = entry.baseline[0] / entry.samples[0]
    found = Interval(ratio, ratio, ratio)
    if not entry.key.method.startswith(f"{MODEL} "):
        return NO_GAIN, "it is modelled, among what was measured"
    if not entry.exact:
        return found, "its output was not compared with the reference"
    if not LEAST_MODELLED <= ratio <= IMPLAUSIBLE:
        return found, f"modelled, not measured: default / candidate is {ratio:.3f}, below {LEAST_MODELLED:g}"
    return found, ""


def verdicts(entries: Iterable[Entry]) -> dict[Key, Verdict]:
    """One for every key; among several winners that whose lower bound is the greatest."""
    grouped: dict[Key, list[Entry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.key].append(entry)
    return {key: verdict(found) for key, found in grouped.items()}


def verdict(entries: Iterable[Entry]) -> Verdict:
    """The same of records of one key."""
    found = list(entries)
    trials = len(tried(found))
    judged = [(*judge(entry), entry) for entry in found if entry.candidate != DEFAULT]
    winners = [(each, entry) for each, why, entry in judged if not why]
    if winners:
        best, entry = max(winners, key=lambda each: (each[0].low, each[1].candidate))
        said = f"modelled, not measured: default / candidate is {best.ratio:.3f}"
        why = said if entry.kind is Kind.MODELLED else f"faster than the default: {best}"
        return Verdict(entry.candidate, best, why, trials, entry)
    finals = [(each, why, entry) for each, why, entry in judged if entry.kind in (Kind.FINAL, Kind.MODELLED)]
    if finals:
        best, why, entry = max(finals, key=lambda each: each[0].low)
        return Verdict(DEFAULT, best, why, trials, entry)
    failed = next((why for _, why, entry in judged if entry.kind is Kind.FAILED), "")
    alive = any(entry.kind is not Kind.FAILED for entry in found)
    return Verdict(
        DEFAULT, NO_GAIN, "no candidate was faster in the race" if alive else failed or "nothing was tried", trials
    )


def tried(entries: Iterable[Entry]) -> frozenset[str]:
    """Candidates of which something is known: what a budget has been spent on."""
    return frozenset(entry.candidate for entry in entries if entry.candidate != DEFAULT)


def counts(found: Mapping[Key, Verdict]) -> tuple[int, int]:
    """(tuned, default)."""
    tuned = sum(each.tuned for each in found.values())
    return tuned, len(found) - tuned
