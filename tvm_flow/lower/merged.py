"""Consecutive calls of a program as one: for a device that wants larger graphs than a CPU wants kernels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import relax

from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import BlockBuilder, bindings_of, call_with
from tvm_flow.graph.program import KernelCall, Program
from tvm_flow.lower.partition import intern

Wiring = tuple[tuple[str, tuple[int, ...]], ...]


def wiring(calls: Sequence[KernelCall]) -> Wiring:
    """Kernels of ``calls`` and which tensors are the same: where it is equal, so is what computes them as one."""
    number: dict[str, int] = {}
    return tuple(
        (call.kernel, tuple(number.setdefault(name, len(number)) for name in (*call.args, call.output)))
        for call in calls
    )


@dataclass(frozen=True)
class _Known:
    """Kernels by name, those that were joined by hash, and their names by what they were made of."""

    kernels: dict[str, Any]
    by_hash: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    by_wiring: dict[Wiring, str] = field(default_factory=dict)


def merged(program: Program, runs: Sequence[range]) -> Program:
    """Each of ``runs``, ascending positions of calls, as one call of a kernel that computes them one after the other.

    Equal runs share a kernel. Raises BuildError for a run that hands over more than its last result, or lies on both
    sides of the prologue's end.
    """
    first = {run.start: run for run in runs}
    known = _Known(dict(program.kernels))
    calls: list[KernelCall] = []
    prologue, position = 0, 0
    while position < len(program.calls):
        run = first.get(position, range(position, position + 1))
        if run.start < program.prologue < run.stop:
            raise BuildError(f"calls {run.start} to {run.stop - 1}: expected them on one side of the prologue's end")
        calls.append(program.calls[position] if len(run) == 1 else _joined(program, run, known))
        prologue += position < program.prologue
        position = run.stop
    used = {call.kernel for call in calls}
    kept = {name: function for name, function in known.kernels.items() if name in used}
    return replace(program, calls=tuple(calls), kernels=kept, prologue=prologue)


def _joined(program: Program, run: range, known: _Known) -> KernelCall:
    members = [program.calls[position] for position in run]
    made = {call.output for call in members}
    outside = (call for position, call in enumerate(program.calls) if position not in run)
    read = {name for call in outside for name in call.args} | set(program.outputs)
    if extra := sorted((made - {members[-1].output}) & read):
        raise BuildError(f"calls {run.start} to {run.stop - 1}: expected one result, got {', '.join(extra)}, too")
    local: dict[str, Any] = {}
    for call in members:
        for name, param in zip(call.args, program.kernels[call.kernel].params, strict=True):
            if name not in made and name not in local:
                local[name] = relax.Var(f"p{len(local)}", param.ty)
    arguments, seen = tuple(local), wiring(members)
    if seen not in known.by_wiring:
        known.by_wiring[seen] = intern(_function(program, members, local), known.kernels, known.by_hash)
    return KernelCall(known.by_wiring[seen], arguments, members[-1].output)


def _function(program: Program, members: Sequence[KernelCall], local: dict[str, Any]) -> Any:
    """The Relax function of ``members``; ``local`` has the parameters, and in the end every tensor."""
    block = BlockBuilder()
    with block.function("kernel", list(local.values())):
        with block.dataflow():
            for call in members:
                function = program.kernels[call.kernel]
                env = dict(zip(function.params, (local[name] for name in call.args), strict=True))
                for var, value in bindings_of(function):
                    if isinstance(value, relax.Var):
                        env[var] = env[value]
                    else:
                        env[var] = block.emit(call_with(value, [_replaced(arg, env) for arg in value.args]))
                local[call.output] = env[function.body.body]
            output = block.emit_output(local[members[-1].output])
        block.emit_func_output(output)
    return block.get()["kernel"]


def _replaced(arg: Any, env: dict[Any, Any]) -> Any:
    if isinstance(arg, relax.Tuple):
        return relax.Tuple([env.get(field, field) for field in arg.fields])
    return env.get(arg, arg) if isinstance(arg, relax.Var) else arg
