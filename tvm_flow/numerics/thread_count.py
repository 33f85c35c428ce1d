"""Sums of torch whose last bits do not depend on how many threads the environment allows.

With several threads a sum may be cut into parts, one for each, and a product of matrices into blocks that other code
computes: 480 rows by 72 columns have other last bits with 4 threads than with 1. So what is written to a file is
computed with a number of threads that the model decides, and neither OMP_NUM_THREADS nor the machine's cores. (Another
kind of CPU has other vector units, and with them may have other last bits.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

FEW, MANY = 1, 8
LARGE = 50_000_000
"""Parameters from which a forward is worth `MANY` threads: below, they wait for each other longer than they work."""


@contextmanager
def thread_count(threads: int = FEW) -> Iterator[None]:
    """Inside, torch computes with ``threads`` threads, whatever the environment says; a decorator, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forward_threads(model: nn.Module) -> int:
    """With how many threads forwards of ``model`` are computed."""
    return MANY if sum(each.numel() for each in model.parameters()) >= LARGE else FEW
