"""How large a kernel becomes when every value in it is written out where it is read.

Schedules inline what is elementwise, so an expression that is read twice is there twice, and a chain of such grows
exponentially: LLVM would find the copies again, hours later. A kernel therefore ends where its copies would be too
many; what is read next is one tensor in memory.
"""

from __future__ import annotations

from typing import Any

from tvm_flow.graph.lifted import op_name

MOST_COPIES = 4096
"""Operations of one kernel, each counted as often as it is written out: some seconds of compilation. The largest kernel
of the demo's STDiT has 1286, of its decoder 267; neither may be cut."""

_READS = {"relax.exp": 26, "relax.maximum": 3, "relax.minimum": 3}


def reads(call: Any) -> int:
    """How often the expression of ``call`` names each of its operands."""
    return _READS.get(op_name(call), 1)
