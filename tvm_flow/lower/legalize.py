"""A kernel's Relax function to one TIR function: TVM's own legalization and fusion, with our exp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax

from tvm_flow.errors import BuildError
from tvm_flow.lower.exponential import te_exp


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
    block = relax.BlockBuilder(tvm.IRModule(dict(others or {})))
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


KERNEL_PASSES: tuple[tuple[str, Any], ...] = (
    ("legalize", relax.transform.LegalizeOps({"relax.exp": _legalize_exp})),
    ("annotate", relax.transform.AnnotateTIROpPattern()),
    ("fuse", relax.transform.FuseTIR()),
    ("clean", relax.transform.DeadCodeElimination(["main"])),
)
"""By name, in order; `tvm_flow.lower.passes` has all others."""
