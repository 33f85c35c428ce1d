"""The output of a kernel as an expression of sums that its shader makes by a template, and not by loops of its TIR."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import s_tir

from tvm_flow.backends.cpu.blocks import is_reduction
from tvm_flow.backends.vulkan.expressions import CannotPrint, Expressions, Writer
from tvm_flow.backends.vulkan.places import ArgumentPlace, OwnPlace
from tvm_flow.graph.types import Block, Expr, PrimFunc, Schedule


@dataclass(frozen=True)
class Epilogue:
    """``value`` of the element at ``axes``, variables, with the sum of that element in it: ``sums`` [axes]."""

    value: Expr
    axes: tuple[Expr, ...]
    sums: Expr

    def printer(
        self, writer: Writer, function: PrimFunc, arguments: tuple[ArgumentPlace, ...], axes: tuple[str, ...]
    ) -> Expressions:
        """Prints ``value`` over ``axes`` and the variable ``total``; raises CannotPrint for another number of axes."""
        if len(axes) != len(self.axes):
            raise CannotPrint(f"sums along {len(axes)} axes whose output has {len(self.axes)}")
        to = Expressions(writer)
        to.places.update(zip(function.params, arguments, strict=True))
        to.places[self.sums] = OwnPlace("total", str(self.sums.dtype), 1, False)
        to.names.update(zip(self.axes, axes, strict=True))
        return to


def epilogue_of(function: PrimFunc) -> Epilogue:
    """Of an unscheduled TIR function with one block that adds up; raises CannotPrint for an output with other axes."""
    schedule = s_tir.Schedule(function)
    inner, output = _blocks(schedule)
    if is_reduction(schedule, output):
        schedule.cache_write(output, 0, "local")
        inner, output = _blocks(schedule)
    for block in inner:
        if not is_reduction(schedule, block):
            schedule.compute_inline(block)
    (sums,), output = _blocks(schedule)
    store = schedule.get(output).body
    for index in store.indices:
        if type(index).__name__ != "Var":
            raise CannotPrint(f"sums whose output is indexed by {index}")
    return Epilogue(store.value, tuple(store.indices), schedule.get(sums).writes[0].source)


def _blocks(schedule: Schedule) -> tuple[list[Block], Block]:
    *inner, output = schedule.get_child_blocks(schedule.get_sblock("root"))
    return inner, output
