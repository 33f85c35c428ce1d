"""Running a bundle that was just made, every kernel call shown to the check."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from tvm_flow.check.trajectory import TrajectoryCheck
from tvm_flow.pack import write_bundle
from tvm_flow.run import Bundle


class _EnoughError(Exception):
    """Ends a run after the steps that are checked."""


def check_bundle(
    bundle: Path, check: TrajectoryCheck, threads: int = 0, progress: bool = True
) -> npt.NDArray[np.float32]:
    """Run the golden input of ``check`` through its steps of ``bundle``, shown to ``check``; returns the latents.

    When those are the first steps only, the runtime is cancelled after them and gives no latents: it then has to repeat
    the check's own, written to ``bundle`` as the golden output of so many steps.

    Raises BitExactError at the first kernel call, tensor or update that disagrees, BundleError when the latents do.
    """
    golden = check.contents.golden
    with (
        Bundle.open(bundle, threads=threads) as opened,
        tqdm(total=check.steps, desc="check", unit="step", disable=not progress) as bar,
    ):

        def advance(done: int, steps: int) -> None:
            bar.update()
            if done == check.steps < steps:
                raise _EnoughError

        with opened.trace(check.see), suppress(_EnoughError):
            return opened.generate(golden.noise, golden.cond, golden.uncond, advance)
    latents = check.latents[check.steps]
    write_bundle(bundle, replace(check.contents, golden=replace(golden, latents=latents, steps=check.steps)))
    with Bundle.open(bundle, threads=threads) as opened:
        opened.verify()
    return latents
