"""Kernels to one object file for a target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm
from tvm.target import Target

from tvm_flow.artifact import atomic_path
from tvm_flow.errors import BuildError
from tvm_flow.kernels.convolution import as_convolution, convolution
from tvm_flow.kernels.gemm import gemm
from tvm_flow.kernels.rows import schedule_rows
from tvm_flow.lower.legalize import to_prim_func
from tvm_flow.lower.packing import PackedProgram


def scheduled_kernels(packed: PackedProgram) -> dict[str, Any]:
    """Scheduled TIR function of every kernel, by name; raises BuildError naming one that cannot be scheduled."""
    return {name: _scheduled(packed, name, function) for name, function in packed.program.kernels.items()}


def _scheduled(packed: PackedProgram, name: str, function: Any) -> Any:
    product = packed.products.get(name)
    if product is not None:
        return gemm(name, product.m, product.k, product.n, product.isa)
    if (shapes := as_convolution(function)) is not None:
        return convolution(name, shapes)
    plain = to_prim_func(function, name)
    try:
        return schedule_rows(plain).with_attr("global_symbol", name)
    except Exception as error:
        raise BuildError(f"kernel {name}: TVM could not schedule it: {error}; report this graph") from error


def compile_object(functions: dict[str, Any], target: Target, path: Path) -> None:
    """Write ``path``: a relocatable object in which kernel NAME is ``__tvm_ffi_NAME``.

    Raises BuildError with LLVM's reason when code generation fails.
    """
    try:
        module = tvm.tirx.build(tvm.IRModule(functions), target=target)
    except Exception as error:
        raise BuildError(f"{path.name}: TVM refused the kernels for {target}: {error}; report this graph") from error
    with atomic_path(path) as temporary:
        named = temporary.with_suffix(".o")
        module.write_to_file(str(named), "o")
        named.rename(temporary)
