"""An integer product and its epilogue as one TIR function over packed weights."""

from __future__ import annotations

from tvm import relax

from tvm_flow.backends.cpu.gemm import gemm_definition
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.graph.lifted import BlockBuilder, bindings_of, call_with, tensor_var
from tvm_flow.graph.types import Expr, PrimFunc, Relax
from tvm_flow.lower.legalize import call_once, fused


def product_prim_func(function: Relax, product: Product, name: str) -> PrimFunc:
    """The same for an integer product with its epilogue; the second parameter is the packed weights."""
    (sums, _), *epilogue = bindings_of(function)
    params = [relax.Var(p.name, p.ty) for p in function.params]
    params[1] = tensor_var("packed", product.packed_shape(), "int8")
    local = dict(zip(function.params, params, strict=True))
    definition = gemm_definition(product.m, product.k, product.n, product.isa).without_attr("global_symbol")
    block = BlockBuilder()
    callee = block.add_func(definition, f"{name}_sums")
    with block.function("kernel", params):
        with block.dataflow():
            local[sums] = block.emit(relax.call_tir(callee, params[:2], sums.ty))
            for var, value in epilogue:
                local[var] = block.emit(_with_locals(value, local))
            output = block.emit_output(local[function.body.body])
        block.emit_func_output(output)
    module = block.get()
    return fused(call_once(module["kernel"], name, {callee: definition}), name)


def _with_locals(value: Expr, local: dict[Expr, Expr]) -> Expr:
    if isinstance(value, relax.Var):
        return local[value]
    return call_with(value, [local.get(arg, arg) for arg in value.args])
