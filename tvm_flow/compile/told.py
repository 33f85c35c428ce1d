"""Progress of what takes long inside one call into TVM, LLVM or the C compiler: which stage it is at, and a clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

Stage = Callable[[str], object]
"""Told what comes next."""
SECONDS = 1.0
"""Between two drawings of a clock that somebody looks at."""


def nothing(_stage: str) -> None:
    """Nobody wants to know."""


@contextmanager
def told(words: str, total: int = 1, unit: str = "part", *, shown: bool = True) -> Iterator[tqdm[NoReturn]]:
    """A bar over ``total`` parts, drawn again every second on a terminal while a part lasts."""
    with tqdm(total=total, desc=words, unit=unit, disable=not shown) as bar, _ticking(bar):
        yield bar


def stage_of(bar: tqdm[NoReturn]) -> Stage:
    """Shows the stage behind ``bar`` at once."""
    return bar.set_postfix_str


@contextmanager
def _ticking(bar: tqdm[NoReturn]) -> Iterator[None]:
    if bar.disable or not bar.fp.isatty():
        yield
        return
    done = threading.Event()

    def tick() -> None:
        while not done.wait(SECONDS):
            bar.refresh()

    thread = threading.Thread(target=tick, name="tvm-flow-clock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
