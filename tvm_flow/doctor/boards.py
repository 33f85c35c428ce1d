"""Whether a tracker has a board."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm_flow.doctor.finding import Finding, Status
from tvm_flow.doctor.tried import try_python

if TYPE_CHECKING:
    from tvm_flow.tune.board_address import Board

_LIST = (
    "import sys\nfrom tvm_flow.tune.board_check import list_boards\n"
    "print(*list_boards(sys.argv[1], int(sys.argv[2])), sep='\\n')"
)


def board_finding(board: Board) -> Finding:
    """By the tracker alone; `tvm-flow boards check` asks the board itself. Required, since it was asked for."""
    tried = try_python(_LIST, board.host, str(board.port))
    server = f"python -m tvm.exec.rpc_server --host 127.0.0.1 --port 9090 --tracker {board.host}:{board.port}"
    status, found, mend = Status.MISSING, tried.words, f"{server} --key {board.key}  # on the board"
    if not tried.good:
        mend = f"python -m tvm.exec.rpc_tracker --host {board.host} --port {board.port}"
    else:
        lines = tried.words.splitlines()
        found = next((line for line in lines if line.startswith(f"{board.key}: ")), "")
        if found:
            status = Status.OK if not found.startswith(f"{board.key}: 0 free") else Status.WRONG
        found = found or f"the tracker has no {board.key}: {', '.join(lines) or 'no board is registered'}"
    return Finding(f"board {board}", status, found, "tune --board, compile --check-on", mend, required=True)
