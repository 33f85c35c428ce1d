"""What the text of an option is read as; argparse makes the errors a line of usage."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def at_least(least: int) -> Callable[[str], int]:
    """A whole number of ``least`` or more."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) >= least):
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
        return int(text)

    return parse


def cpus(text: str) -> tuple[int, ...]:
    """CPU numbers and ranges of them, like 4-7,0-3."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            low, high = at_least(0)(first), at_least(0)(last if dash else first)
        except argparse.ArgumentTypeError:
            low, high = 1, 0
        if not low <= high < 2**16 or set(found) & set(range(low, high + 1)):
            raise argparse.ArgumentTypeError(f"expected CPU numbers like 4-7,0-3, each once, got {text!r}")
        found += range(low, high + 1)
    return tuple(found)


def minutes(text: str) -> float:
    """More than none."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected minutes above 0, like 30 or 0.5, got {text!r}")
    return value


def seed(text: str) -> int:
    """A seed from 0 to 2**63 - 1."""
    value = at_least(0)(text)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**63 - 1, got {text!r}")
    return value


def latent(text: str) -> tuple[int, int, int, int]:
    """Four sizes, like 4,16,32,32."""
    try:
        c, t, h, w = (at_least(1)(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"expected four sizes like 4,16,32,32, got {text!r}") from None
    return (c, t, h, w)
