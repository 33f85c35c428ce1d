"""What takes long in ``scripts/bench npu``, told on stderr as it goes: stages, and command streams side by side."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from tqdm import tqdm

from tvm_flow.toolchain.arm_npu import EthosStream, ethos_stream


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Say that ``what`` begins, and how long it took."""
    print(f"{what} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)


def ethos_streams(graphs: Mapping[str, bytes], accelerators: Sequence[str]) -> dict[str, dict[str, EthosStream]]:
    """Of each accelerator the streams of ``graphs``, by their names; equal graphs are compiled once.

    As many at a time as there are cores. Raises BuildError with vela's words.
    """
    jobs = [(accelerator, graph) for accelerator in accelerators for graph in dict.fromkeys(graphs.values())]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(lambda job: ethos_stream(job[1], job[0]), jobs)
        found = dict(zip(jobs, tqdm(made, "vela", len(jobs), unit="stream"), strict=True))
    return {each: {name: found[each, graph] for name, graph in graphs.items()} for each in accelerators}
