"""What a long bench is at, and how much of its time is left: a line on stderr before and after each part."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


def say(line: str) -> None:
    """On stderr, at once: stdout is for the bench's own line."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Phases:
    """``many`` parts that together have ``seconds``."""

    many: int
    seconds: float
    start: float = field(default_factory=time.monotonic)
    at: int = 0

    @property
    def left(self) -> float:
        """Seconds."""
        return max(self.start + self.seconds - time.monotonic(), 0.0)

    @property
    def took(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    @contextmanager
    def part(self, words: str) -> Iterator[None]:
        """The next one."""
        self.at += 1
        head, start = f"[{self.at}/{self.many}] {words}", time.monotonic()
        say(f"{head}: {self.took:.0f} s gone, {self.left:.0f} s left")
        yield
        say(f"{head}: took {time.monotonic() - start:.0f} s")
