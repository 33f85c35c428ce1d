"""Kernels to one object file for a target."""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import tvm
from tvm.target import Target

from tvm_flow.artifact import write_bytes
from tvm_flow.backends.cpu.attention import divided_last
from tvm_flow.backends.cpu.attention_tiles import layout_of, streams
from tvm_flow.backends.cpu.choices import AttentionChoice, Choice, FloatChoice
from tvm_flow.backends.cpu.code_attention import as_code_attention
from tvm_flow.backends.cpu.code_dots import CodeDot, noted_dot
from tvm_flow.backends.cpu.code_streaming import code_streamed
from tvm_flow.backends.cpu.code_tiles import code_layout_of
from tvm_flow.backends.cpu.convolution import Convolution, as_convolution, convolution, weight_layout
from tvm_flow.backends.cpu.float_product import float_product, noted_float_product
from tvm_flow.backends.cpu.gemm import gemm, schedule_gemm
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.products import product_prim_func
from tvm_flow.backends.cpu.registers import PLAIN, Registers, noted_registers
from tvm_flow.backends.cpu.rows import schedule_rows
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.cpu.streaming import streamed
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.graph.types import PrimFunc, Relax
from tvm_flow.lower.legalize import to_prim_func

tvm.ir.register_op_attr("tirx.nearbyint", "TVectorizable", True)
"""LLVM rounds vectors, which TVM does not know: it would take every loop to codes apart, and with it all that they are
made of. One core of Zen 4, 4096x1152 floats times a gain to codes 4.6 ms before and 1.5 so, with a norm 6.2 and 2.6
(2026-11-26)."""


def scheduled_kernels(packed: PackedProgram, names: Collection[str] | None = None) -> dict[str, Any]:
    """Scheduled TIR function of every kernel (of ``names`` alone), by name.

    Raises BuildError naming one that cannot be scheduled.
    """
    chosen = {name: f for name, f in packed.program.kernels.items() if names is None or name in names}
    return {name: _scheduled(packed, name, function) for name, function in chosen.items()}


def _scheduled(packed: PackedProgram, name: str, function: Any) -> Any:
    product = packed.products.get(name)
    shapes = as_convolution(function)
    try:
        if product is not None:
            return _scheduled_product(product, name, function)
        if (floats := noted_float_product(packed, name)) is not None:
            choice = packed.choices.get(name)
            return float_product(name, floats, choice if isinstance(choice, FloatChoice) else None)
        if shapes is not None:
            return _convolution(packed, name, shapes)
        if (dot := noted_dot(packed, name)) is not None:
            return code_kernel(name, function, dot)
        return float_kernel(name, function, noted_registers(packed, name), packed.choices.get(name))
    except BuildError:
        raise
    except Exception as error:
        raise BuildError(f"kernel {name}: TVM could not schedule it: {error}; report this graph") from error


def _convolution(packed: PackedProgram, name: str, shapes: Convolution) -> Any:
    registers, placement = noted_registers(packed, name) or PLAIN, packed.placements.get(name)
    constant = placement is not None and bool(placement.layouts)
    return convolution(name, shapes, registers, weight_layout(shapes, registers) if constant else None)


def _scheduled_product(product: Product, name: str, function: Any) -> Any:
    size = (product.m, product.k, product.n, product.isa, product.tiling)
    if not product.epilogue:
        return gemm(name, *size)
    return schedule_gemm(product_prim_func(function, product, name), *size).with_attr("global_symbol", name)


def float_kernel(
    name: str, function: Relax, registers: Registers | None = None, choice: Choice | None = None
) -> PrimFunc:
    """Scheduled TIR function of a kernel that is neither an integer product nor a convolution.

    Raises BuildError for a ``choice`` of another kind of kernel.
    """
    attention = as_attention(function)
    if attention is not None and streams(attention) and isinstance(choice, AttentionChoice | None):
        return streamed(name, attention, layout_of(attention, registers or PLAIN, choice))
    lowered = to_prim_func(divided_last(function), name)
    return schedule_rows(lowered, choice, registers).with_attr("global_symbol", name)


def code_kernel(name: str, function: Relax, dot: CodeDot) -> PrimFunc:
    """Scheduled TIR function of an attention of codes; raises BuildError for a kernel that is none."""
    attention = as_code_attention(function)
    if attention is None:
        raise BuildError(f"kernel {name}: expected an attention of codes, got another kernel; report this graph")
    return code_streamed(name, attention, code_layout_of(attention, dot), dot)


def compile_object(functions: dict[str, Any], target: Target, path: Path) -> None:
    """Write ``path``: a relocatable object in which kernel NAME is ``__tvm_ffi_NAME``.

    Raises BuildError with LLVM's reason when code generation fails.
    """
    try:
        module = tvm.tirx.build(tvm.IRModule(functions), target=target)
    except Exception as error:
        raise BuildError(f"{path.name}: TVM refused the kernels for {target}: {error}; report this graph") from error
    write_bytes(path, _object_bytes(module))


def _object_bytes(module: Any) -> memoryview:
    """Written to memory: LLVM ends the process when a disk is full."""
    file = os.memfd_create("tvm-flow-object")
    try:
        module.write_to_file(f"/proc/self/fd/{file}", "o")
        return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(file)
