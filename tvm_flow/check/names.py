"""That a program may be followed by names: each means one tensor.

The checks of a run know a tensor by its name, as the plan does. Were a name given twice, both would take one for the
other and agree. So before anything is followed, the names themselves are looked at.
"""

from __future__ import annotations

from tvm_flow.backends.packed import PackedProgram
from tvm_flow.errors import BitExactError


def require_names_apart(packed: PackedProgram) -> None:
    """Raise BitExactError unless inputs, constants and outputs have a name each, known before it is read."""
    program = packed.program
    known = {*program.graph.inputs, *packed.constants}
    if len(known) != len(program.graph.inputs) + len(packed.constants):
        both = sorted(set(program.graph.inputs) & packed.constants.keys())
        raise BitExactError(f"names: expected each to mean one tensor, got {both} as input and constant; report this")
    for index, call in enumerate(program.calls):
        where = f"call {index}, kernel {call.kernel}"
        for name in call.args:
            if name not in known:
                raise BitExactError(f"{where}: expected {name!r} to be written before it is read; report this graph")
        if call.output in known:
            raise BitExactError(f"{where}: expected a new name for what it writes, got {call.output!r}; report this")
        known.add(call.output)
    for name in program.outputs:
        if name not in known:
            raise BitExactError(f"names: expected {name!r}, an output, to be written; report this graph")
