"""A kernel's Relax function to one TIR function: TVM's own legalization and fusion, with our exp and our products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm
from tvm import relax

from tvm_flow.errors import BuildError
from tvm_flow.importer.graph import bindings_of, call_with, tensor_var
from tvm_flow.kernels.gemm import gemm_definition
from tvm_flow.lower.exponential import te_exp
from tvm_flow.lower.packing import Product


def to_prim_func(function: Any, name: str) -> Any:
    """TIR function of ``function``, unscheduled, its parameters followed by the output buffer.

    Raises BuildError when TVM does not lower the kernel to exactly one function.
    """
    return _fused(_call_once(function, name), name)


def product_prim_func(function: Any, product: Product, name: str) -> Any:
    """The same for an integer product with its epilogue; the second parameter is the packed weights."""
    (sums, _), *epilogue = bindings_of(function)
    params = [relax.Var(p.name, p.ty) for p in function.params]
    params[1] = tensor_var("packed", product.packed_shape(), "int8")
    local = dict(zip(function.params, params, strict=True))
    definition = gemm_definition(product.m, product.k, product.n, product.isa).without_attr("global_symbol")
    block = relax.BlockBuilder()
    callee = block.add_func(definition, f"{name}_sums")
    with block.function("kernel", params):
        with block.dataflow():
            local[sums] = block.emit(relax.call_tir(callee, params[:2], sums.ty))
            for var, value in epilogue:
                local[var] = block.emit(_with_locals(value, local))
            output = block.emit_output(local[function.body.body])
        block.emit_func_output(output)
    module = block.get()
    return _fused(_call_once(module["kernel"], name, {callee: definition}), name)


def _with_locals(value: Any, local: dict[Any, Any]) -> Any:
    if isinstance(value, relax.Var):
        return local[value]
    return call_with(value, [local.get(arg, arg) for arg in value.args])


def _fused(module: Any, name: str) -> Any:
    try:
        module = relax.transform.LegalizeOps({"relax.exp": _legalize_exp})(module)
        module = relax.transform.AnnotateTIROpPattern()(module)
        module = relax.transform.FuseTIR()(module)
        module = relax.transform.DeadCodeElimination(["main"])(module)
    except Exception as error:
        raise BuildError(f"kernel {name}: TVM could not lower it: {error}; report this graph") from error
    functions = [f for f in module.functions.values() if isinstance(f, tvm.tirx.PrimFunc)]
    if len(functions) != 1:
        raise BuildError(f"kernel {name}: expected one TIR function after fusion, got {len(functions)}; simplify it")
    return functions[0].with_attr("global_symbol", name)


def _call_once(function: Any, name: str, others: Mapping[Any, Any] | None = None) -> Any:
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
