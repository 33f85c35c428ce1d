"""``tvm-flow tune``, ``boards`` and ``records``: their options, and what they print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_flow.cli.argument_types import minutes
from tvm_flow.scratch import temporary_folder
from tvm_flow.shipped import output_folder

if TYPE_CHECKING:
    from tvm_flow.tune.board_address import Board


def records_options(parser: argparse.ArgumentParser) -> None:
    """Of ``records``."""
    actions = ("list", "show", "curve", "merge", "verify", "export", "prune")
    text = (
        "show the records of a kernel, or its curve, trials against speed; merge in folders or files; export winners "
        "to a file; prune what other versions of the compilers measured, and lines that do not count"
    )
    parser.add_argument("action", choices=actions, help=text)
    text = "start of a kernel's hash for show and curve, paths for merge, verify and export"
    parser.add_argument("what", nargs="*", help=text)
    parser.add_argument("--all-versions", action="store_true", help="prune: keep what other compilers measured")
    parser.set_defaults(complain=parser.error)


def tune_options(parser: argparse.ArgumentParser, whole: Callable[[int], Callable[[str], int]]) -> None:
    """Of ``tune``."""
    parser.add_argument("export", type=Path, nargs="?", default=output_folder() / "export", help="what export wrote")
    parser.add_argument("--target", default="host", help="'host', a name in targets/, or a YAML file")
    budget = parser.add_mutually_exclusive_group()
    text = "candidates to have tried, over all kernels, those of earlier runs included"
    budget.add_argument("--trials", type=whole(1), default=256, metavar="N", help=text)
    text = "for all that it does, instead of --trials"
    budget.add_argument("--minutes", type=minutes, default=0.0, metavar="M", help=text)
    board_option(parser, "--board", "measure, instead of here, on")
    text = "boards of that key that share the kernels, each against its own default; 0: all that are free"
    parser.add_argument("--boards", type=whole(0), default=1, metavar="N", help=text)
    text = "for a core that is not there: cycles by llvm-mca of what runs here or under qemu, no measurement"
    parser.add_argument("--modelled", action="store_true", help=text)
    parser.set_defaults(complain=parser.error)
    parser.add_argument("--only", default="", metavar="KERNEL", help="kernels with this in their name or shape")


def boards_options(parser: argparse.ArgumentParser) -> None:
    """Of ``boards``."""
    text = "list the keys of HOST:PORT; check a board of HOST:PORT/KEY; bench times a product there"
    parser.add_argument("action", choices=("list", "check", "bench"), help=text)
    parser.add_argument(
        "address", nargs="?", default="localhost:9190", metavar="HOST:PORT[/KEY]", help="of the tracker"
    )
    parser.add_argument("--target", default="host", help="that the board should be: a name in targets/, or a YAML file")
    parser.set_defaults(complain=parser.error)


def board_option(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    """An option that names a board of a tracker."""
    parser.add_argument(name, metavar="HOST:PORT/KEY", help=f"{text} a board of TVM's RPC tracker; see boards")


def asked_board(text: str | None) -> Board | None:
    """What such an option names; what its address risks is said once. Raises ConfigError."""
    from tvm_flow.tune.board_address import parse_board

    if text is None:
        return None
    board = parse_board(text)
    if board.risk:
        print(f"warning: {board.risk}", file=sys.stderr)
    return board


def tune(arguments: argparse.Namespace) -> None:
    """Measure candidates until the budget is met; what was measured stays whatever happens."""
    from tvm_flow.errors import BuildError, InterruptedCommand
    from tvm_flow.target.spec import load_target
    from tvm_flow.tune.model_export import tune_modelled
    from tvm_flow.tune.tune_export import TuneOptions, tune

    given = arguments
    if given.modelled and (given.board or given.minutes):
        given.complain("--modelled: expected no --board and --trials instead of --minutes: nothing is measured")
    if given.boards != 1 and not given.board:
        given.complain("--boards: expected --board HOST:PORT/KEY, whose boards are meant")
    board = asked_board(given.board)
    trials = 0 if given.minutes else given.trials
    options = TuneOptions(trials, given.minutes, given.only, given.threads, board=board, boards=given.boards)
    run = tune_modelled if given.modelled else tune
    done = run(given.export, load_target(given.target), given.records, options, print)
    print("\n".join(done.lines()))
    print(f"records: {given.records}")
    if done.interrupted:
        raise InterruptedCommand("interrupted; every finished measurement is kept, run the same command again")
    if done.ended:
        raise BuildError(f"{done.ended}; every finished measurement is kept, run the same command again")
    if done.failed and len(done.failed) == len(done.verdicts):
        first = next(iter(done.failed.values()))
        print(f"tvm-flow: tune: expected a measurement, every kernel failed; the first: {first}", file=sys.stderr)
        raise SystemExit(1)


def boards(arguments: argparse.Namespace) -> None:
    """Say which boards a tracker has, or whether one is what it should be."""
    from tvm_flow.target.spec import load_target
    from tvm_flow.tune import board_check

    given = arguments
    board = asked_board(given.address if "/" in given.address else f"{given.address}/any")
    assert board is not None
    if given.action == "list":
        print("\n".join(board_check.list_boards(board.host, board.port)) or "no board is registered")
        return
    if "/" not in given.address:
        given.complain(f"{given.action}: expected HOST:PORT/KEY")
    target = load_target(given.target)
    with temporary_folder("board") as folder:
        found = board_check.check_board(board, target, folder)
    print("\n".join([f"board {board}: all features of target {target.name}", *found.lines()]))
    if given.action == "bench":
        print("\n".join(board_check.bench_board(board, target, given.threads or 1)))


def records(arguments: argparse.Namespace) -> None:
    """Look at a store of measurements, or tidy it."""
    from tvm_flow.tune import records as kept

    given, store, what = arguments, arguments.records, arguments.what
    if given.action == "list":
        print("\n".join(kept.list_records(store)) or f"no records in {store}")
    elif given.action == "verify":
        found = kept.verify_records(*(map(Path, what) if what else [store]))
        print(f"{len(found.entries)} records, every line counts")
    elif given.action == "prune":
        from tvm_flow.tune.workloads import compilers_text

        compilers = compilers_text()
        done = kept.prune_records(store, lambda entry: given.all_versions or entry.key.compilers == compilers)
        held = "".join(f"; {path.name} is being written, and was left" for path in done.in_use)
        print(f"{done.kept} records kept, {done.removed} removed{held}")
    elif not what:
        given.complain(f"{given.action}: expected what to {given.action}")
    elif given.action == "show":
        print("\n".join(line for each in what for line in kept.show_records(store, each)))
    elif given.action == "curve":
        from tvm_flow.tune.curves import curves_of

        print("\n".join(line for each in what for found in curves_of(store, each) for line in found.lines()))
    elif given.action == "merge":
        print(f"{kept.merge_records(store, list(map(Path, what)))} new records in {store}")
    else:
        print(f"{kept.export_records(store, Path(what[0]))} records that won: {what[0]}")
