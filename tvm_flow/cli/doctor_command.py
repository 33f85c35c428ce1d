"""``tvm-flow doctor``: its options, and what it prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tvm_flow.cli.tuning_commands import asked_board, board_option
from tvm_flow.shipped import output_folder


def doctor_options(parser: argparse.ArgumentParser) -> None:
    """Of ``doctor``."""
    board_option(parser, "--board", "ask too for")
    text = "folder that commands would write to: is there room"
    parser.add_argument("--output", type=Path, default=output_folder(), help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def doctor(arguments: argparse.Namespace) -> None:
    """Say what is in order and what mends the rest; exit code 1 when something required is not."""
    from tvm_flow.doctor import examine
    from tvm_flow.doctor.boards import board_finding
    from tvm_flow.doctor.finding import summary

    board = asked_board(arguments.board)
    findings = []
    for finding in examine(arguments.output):
        findings.append(finding)
        _show(arguments.json, finding.lines())
    if board is not None:
        findings.append(board_finding(board))
        _show(arguments.json, findings[-1].lines())
    fatal = any(finding.fatal for finding in findings)
    if arguments.json:
        print(json.dumps({"ok": not fatal, "findings": [finding.as_dict() for finding in findings]}))
    else:
        print(summary(findings))
    if fatal:
        raise SystemExit(1)


def _show(as_json: bool, lines: list[str]) -> None:
    """At once: imports take seconds."""
    if not as_json:
        print("\n".join(lines), flush=True)
