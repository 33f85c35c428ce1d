"""A computation by TOSA's integer operators as one operator of Relax: its program is the attribute of its call.

    tvm_flow.integers(x, y, ..; program) = `tvm_flow.numerics.integer_program.IntegerProgram.run` of the arguments

One call is one kernel. To a backend that has such operators it is a graph of them; to others it is one that they lack.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import ir, relax
from tvm.ir import _ffi_api

from tvm_flow.graph.lifted import op_name
from tvm_flow.graph.types import Expr
from tvm_flow.numerics.integer_program import IntegerProgram, program_from_text
from tvm_flow.numerics.operators import INTEGERS


def integers_call(program: IntegerProgram, args: Sequence[Expr]) -> Expr:
    """``program`` of ``args``."""
    return ir.Call(_operator(), list(args), ir.make_node("ir.DictAttrs", program=program.to_text()))


def program_of(call: Expr) -> IntegerProgram | None:
    """That of ``call``, if it is one."""
    return program_from_text(str(call.attrs["program"])) if op_name(call) == INTEGERS else None


def _operator() -> Expr:
    """TVM's, which is made when it is first asked for; TVM keeps it for the process."""
    if INTEGERS not in _ffi_api.ListOpNames():
        _ffi_api.RegisterOp(INTEGERS, "A computation by TOSA's integer operators.")
        ir.register_op_attr(INTEGERS, "FInferType", _type_of)
        ir.register_op_attr(INTEGERS, "FPurity", True)
    return ir.Op.get(INTEGERS)


def _type_of(call: Expr, _builder: object) -> object:
    result = program_from_text(str(call.attrs["program"])).result
    return relax.TensorType(list(result.shape), result.dtype)
