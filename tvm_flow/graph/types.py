"""TVM's own classes, by the names that signatures use for them.

TVM comes without type information, so mypy takes each of these for ``Any``; a reader does not have to. `Relax` is a
function over tensors, `PrimFunc` one over `Buffer`s and loops; a `Block` and a `Loop` belong to the `Schedule` that
named them; `Expr` is an index or a scalar in TIR, a tensor in Relax, and `Var` one that is bound or given.
"""

from tvm.ir import Expr
from tvm.relax import Function as Relax
from tvm.relax import Var
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV as Loop
from tvm.s_tir.schedule import SBlockRV as Block
from tvm.te import Tensor
from tvm.tirx import Buffer, PrimFunc

__all__ = ["Block", "Buffer", "Expr", "Loop", "PrimFunc", "Relax", "Schedule", "Tensor", "Var"]
