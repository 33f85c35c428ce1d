"""The tune command: every kernel of an export, those that take the most time first, until the budget is met.

1. extract the kernels (`extracted`), and what the store knows of each
2. measure each default once: its share of the run decides its share of the trials
3. search kernel by kernel (`search`); every measurement is in the store before the next one starts
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict

from tvm_flow.artifact import require_unchanged
from tvm_flow.backends.packed import CPU
from tvm_flow.errors import BuildError, ConfigError
from tvm_flow.export.write import load_exported
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.scratch import temporary_folder
from tvm_flow.target.spec import TargetSpec, detect_host
from tvm_flow.tune.board_check import free_boards, hold_board
from tvm_flow.tune.board_session import BoardError
from tvm_flow.tune.board_team import hire
from tvm_flow.tune.entries import Entry
from tvm_flow.tune.extracted import TunedKernel, tuned_kernels
from tvm_flow.tune.first_order import FirstOrder
from tvm_flow.tune.ledger import Writer, read_ledger
from tvm_flow.tune.local_bench import BoardBench, LocalBench
from tvm_flow.tune.run_files import RunFile, write_run
from tvm_flow.tune.shared_run import SharedRun
from tvm_flow.tune.tuning_run import DEFAULT_TRIALS, LocalRun, Run, Tuned, TuneOptions

__all__ = ["DEFAULT_TRIALS", "TuneOptions", "Tuned", "require_here", "threads_of", "tune", "tune_kernels"]


def tune(export: Path, target: TargetSpec, store: Path, options: TuneOptions, say: Callable[[str], None]) -> Tuned:
    """See the module. Ctrl-C ends it; what was measured is kept.

    Raises ConfigError when no kernel is wanted; ExportError, ImportGraphError, BuildError; OSError when the store
    cannot be written.
    """
    start, threads = time.monotonic(), threads_of(options)
    exported = load_exported(export)
    require_unchanged(export, "export")
    with interrupts_kept():
        kernels = tuned_kernels(exported, target, threads, lambda words: options.only in words, options.progress)
    if not kernels:
        others = ", ".join(name for name in target.backends if name != CPU)
        of = f" that the CPU runs: kernels of {others} are not tuned" if others else ""
        raise ConfigError(
            f"--only {options.only!r}: expected a part of a kernel's name or shape, got none of {export}{of}"
        )
    say(f"{len(kernels)} kernels with a space, {sum(len(each.task.space) for each in kernels)} candidates")
    return tune_kernels(kernels, target, store, options, say, start)


def threads_of(options: TuneOptions) -> int:
    """That a kernel runs on."""
    return options.threads or (1 if options.board else len(os.sched_getaffinity(0)))


def tune_kernels(
    kernels: Sequence[TunedKernel],
    target: TargetSpec,
    store: Path,
    options: TuneOptions,
    say: Callable[[str], None],
    start: float,
) -> Tuned:
    """The same of ``kernels``, extracted for the threads of ``options``; its minutes began at ``start``."""
    threads = threads_of(options)
    with temporary_folder("tune") as folder, Writer(store) as writer:
        by_workload = {kernel.task.key.workload: kernel for kernel in kernels}
        benches = _benches(by_workload, target, threads, folder, options)
        common = _Common(known=list(read_ledger(store).entries), options=options, start=start, say=say)
        team = hire(benches, target, store) if len(benches) > 1 else None
        measures = team or benches[0]
        if team:
            run: Run = SharedRun(team=team, **common)
        else:
            run = LocalRun(bench=benches[0], writer=writer, **common)
            run.first = FirstOrder.on(benches[0], store, writer.append, run.live.line).ratios
        try:
            with closing(measures), closing(run.live):
                run.all([kernel.task for kernel in kernels])
        except KeyboardInterrupt:
            run.tuned.interrupted = True
        except BoardError as error:
            run.tuned.ended = str(error)
        run.tuned.costs, run.tuned.seconds = measures.costs, time.monotonic() - start
        run.tuned.boards = many = len(benches)
        if run.tuned.trials:
            calls = {kernel.task.key.workload: kernel.task.calls for kernel in kernels}
            costs = (run.tuned.trials, run.tuned.seconds, measures.costs.compile / many, measures.costs.run / many)
            write_run(store, RunFile(target.name, *costs, calls))
        return run.tuned


class _Common(TypedDict):
    known: list[Entry]
    options: TuneOptions
    start: float
    say: Callable[[str], None]


def _benches(
    kernels: dict[str, TunedKernel], target: TargetSpec, threads: int, folder: Path, options: TuneOptions
) -> Sequence[LocalBench]:
    """Here, or on the board of ``options`` if it is the one that it should be, or one for each of its boards."""
    workers, board = options.workers or len(os.sched_getaffinity(0)), options.board
    if board is None:
        require_here(target)
        return [LocalBench(kernels, target, threads, workers, folder)]
    many = options.boards or free_boards(board) or 1
    if many == 1:
        held, _ = hold_board(board, target, folder)
        return [BoardBench(kernels, target, threads, workers, folder, held=held)]
    folders, share = [folder / f"board{number}" for number in range(many)], max(workers // many, 1)
    return [BoardBench(kernels, target, threads, share, each, board=board) for each in folders]


def require_here(target: TargetSpec) -> None:
    """Raise BuildError when kernels of ``target`` cannot be timed on this machine."""
    here = detect_host()
    if target.triple != here.triple or not target.features <= here.features:
        raise BuildError(
            f"target {target.name}: expected a board to measure on (--board HOST:PORT/KEY), got this machine, which is "
            f"{here.cpu} and lacks {', '.join(sorted(target.features - here.features)[:5]) or 'its architecture'}"
        )
