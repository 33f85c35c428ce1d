"""The threads that run kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from tvm_flow.errors import ConfigError, RuntimeFailure
from tvm_flow.run.native import COptions


@dataclass(frozen=True)
class Workers:
    """How many threads run kernels, where, and how finely loops are cut for them. No bit of the result changes.

    ================  =======================================================================================
    threads           how many, the calling thread included; 0: one for each of ``cpus``, or for every core
    cpus              worker i is bound to ``cpus[i]``; the calling thread is worker 0, bound while kernels run
    tasks_per_thread  cuts parallel loops finer, so that fast cores take more; 0: where cores differ
    ================  =======================================================================================
    """

    threads: int = 0
    cpus: Sequence[int] = ()
    tasks_per_thread: int = 0

    @classmethod
    def chosen(cls, threads: int, workers: Workers | None) -> Workers:
        """``workers``, or so many ``threads`` of default workers. Raises ConfigError when both are given."""
        if workers is None:
            return cls(threads)
        if threads:
            raise ConfigError(f"threads: expected none beside workers, got {threads} and {workers}; give one of them")
        return workers

    def options(self) -> COptions:
        """Options for a bundle that was verified just now. Raises RuntimeFailure for a number that C could not hold."""
        given = {"threads": [self.threads], "cpus": self.cpus, "tasks_per_thread": [self.tasks_per_thread]}
        for name, values in given.items():
            if wrong := [value for value in values if not 0 <= value < 2**32]:
                raise RuntimeFailure(f"{name}: expected whole numbers from 0 to 2**32 - 1, got {wrong[0]}; correct it")
        return COptions(
            struct_bytes=ctypes.sizeof(COptions),
            threads=self.threads,
            weights_checked=1,
            cpus=(ctypes.c_uint32 * len(self.cpus))(*self.cpus),
            num_cpus=len(self.cpus),
            tasks_per_thread=self.tasks_per_thread,
        )
