"""A kernel's Relax function to one TIR function: TVM's own legalization and fusion, with our exp and extremes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import relax, tirx

from tvm_flow.errors import BuildError
from tvm_flow.graph.lifted import BlockBuilder
from tvm_flow.lower.exponential import te_exp
from tvm_flow.lower.extremes import te_maximum, te_minimum
from tvm_flow.lower.largest import largest_or_nan


def to_prim_func(function: Any, name: str) -> Any:
    """TIR function of ``function``, unscheduled, its parameters followed by the output buffer.

    Raises BuildError when TVM does not lower the kernel to exactly one function.
    """
    return fused(call_once(function, name), name)


def fused(module: Any, name: str) -> Any:
    """The one TIR function that ``module`` of `call_once` is after fusion; raises BuildError naming kernel ``name``."""
    try:
        for _, run in KERNEL_PASSES:
            module = run(module)
    except Exception as error:
        raise BuildError(f"kernel {name}: TVM could not lower it: {error}; report this graph") from error
    functions = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    if len(functions) != 1:
        raise BuildError(f"kernel {name}: expected one TIR function after fusion, got {len(functions)}; simplify it")
    return functions[0].with_attr("global_symbol", name)


def call_once(function: Any, name: str, others: Mapping[Any, Any] | None = None) -> Any:
    """A module whose ``main`` calls ``function`` once, so that fusion has a caller to rewrite."""
    block = BlockBuilder(tvm.IRModule(dict(others or {})))
    private = relax.Function(function.params, function.body, function.ret_ty, True).with_attr("Primitive", True)
    callee = block.add_func(private, name)
    params = [relax.Var(p.name, p.ty) for p in function.params]
    with block.function("main", params):
        with block.dataflow():
            output = block.emit_output(tvm.ir.Call(callee, params))
        block.emit_func_output(output)
    return block.get()


def _legalize_exp(block: Any, call: Any) -> Any:
    return block.call_te(te_exp, call.args[0], primfunc_name_hint="exp")


def _legalize_extreme(expression: Callable[[Any, Any], Any], name: str) -> Callable[[Any, Any], Any]:
    def legalize(block: Any, call: Any) -> Any:
        return block.call_te(expression, *map(_scalar_or_tensor, call.args), primfunc_name_hint=name)

    return legalize


def _scalar_or_tensor(expr: Any) -> Any:
    if not isinstance(expr, tvm.ir.Constant) or expr.ty.ndim:
        return expr
    return tirx.const(float(expr.value.numpy()), "float32")


_OWN = {
    "relax.exp": _legalize_exp,
    "relax.maximum": _legalize_extreme(te_maximum, "maximum"),
    "relax.minimum": _legalize_extreme(te_minimum, "minimum"),
}

KERNEL_PASSES: tuple[tuple[str, Any], ...] = (
    ("largest", largest_or_nan),
    ("legalize", relax.transform.LegalizeOps(_OWN)),
    ("annotate", relax.transform.AnnotateTIROpPattern()),
    ("fuse", relax.transform.FuseTIR()),
    ("clean", relax.transform.DeadCodeElimination(["main"])),
)
"""By name, in order; `tvm_flow.lower.passes` has all others."""
