"""The one suite: a part of a bundle run on a machine, every kernel call of it compared."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from tvm_flow.check.follow import FollowedRuns
from tvm_flow.check.machines import Machine
from tvm_flow.check.trajectory import TrajectoryCheck
from tvm_flow.pack import write_bundle
from tvm_flow.plan.folds import Floats
from tvm_flow.run import TracedCall


class _EnoughError(Exception):
    """Ends a run after what is checked."""


def run_checked(
    machine: Machine, bundle: Path, check: FollowedRuns, shape: tuple[int, ...], threads: int = 0, progress: bool = True
) -> Floats:
    """What the part of ``check`` gives on ``machine`` for the golden input of ``bundle``, in ``shape``, all compared.

    When the check wants the first steps only, the runtime is cancelled after them and gives no latents: it then has to
    repeat the check's own, written to ``bundle`` as the golden output of so many steps.

    Raises BitExactError at the first kernel call, tensor or update that disagrees, BundleError when the latents do.
    """
    words = f"check {check.part} on {machine.describe()}"
    with tqdm(total=check.expected_calls, desc=words, unit="call", disable=not progress) as bar:

        def see(call: TracedCall) -> None:
            check.see(call)
            bar.update()

        def step() -> None:
            if check.stops_early and check.done:
                raise _EnoughError

        with suppress(_EnoughError):
            result = machine.trace(bundle, check.part, threads, see, step).reshape(shape)
            check.finish(result)
            return result
    assert isinstance(check, TrajectoryCheck)
    contents = check.first_steps()
    write_bundle(bundle, contents)
    machine.verify(bundle, threads)
    check.finish(contents.golden.latents)
    return contents.golden.latents
