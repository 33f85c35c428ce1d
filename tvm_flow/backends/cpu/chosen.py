"""Which instructions every kernel of a program got, and which kernels are slow: what the compile command prints.

A build is as green with the plain loop as with the dot product that is ten times faster, so it must be said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tvm_flow.backends.cpu.code_dots import CodeDot, noted_dot
from tvm_flow.backends.cpu.convolution import as_convolution
from tvm_flow.backends.cpu.generic import GENERIC
from tvm_flow.backends.cpu.isa import Isa, choose_isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.backends.cpu.row_kinds import RowKind, row_kind
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name
from tvm_flow.lower.legalize import to_prim_func

_VECTORS = ("avx512f", "avx2", "avx", "sse2", "sve", "neon")
_ROWS = {
    RowKind.ELEMENTWISE: "rows",
    RowKind.ROWS: "rows",
    RowKind.ATTENTION: "attention",
    RowKind.PRODUCT: "float product",
    RowKind.IN_ORDER: "sums in order",
}


@dataclass(frozen=True)
class ChosenKernel:
    """What a kernel runs on; ``slow`` says why it is slow, "" when it is not."""

    kernel: str
    kind: str
    """"product" with its shape, "attention", "int8 attention", "rows", "convolution", "float product", "sums in
    order"."""
    instructions: str
    """The instruction set of a product's kernel; for the others the vectors that LLVM may use."""
    slow: str = ""


def chosen_kernels(packed: PackedProgram, features: frozenset[str]) -> tuple[ChosenKernel, ...]:
    """One record for every kernel of ``packed`` that the CPU runs, compiled for ``features``, in their order."""
    best, vectors = choose_isa(features), vectors_of(features)
    return tuple(
        _product(name, packed.products[name], best)
        if name in packed.products
        else _codes(name, dot)
        if (dot := noted_dot(packed, name)) is not None
        else _other(name, function, vectors)
        for name, function in packed.program.kernels.items()
        if packed.device_of(name) == CPU
    )


def vectors_of(features: frozenset[str]) -> str:
    """The widest vectors that LLVM may use; sve beside neon only where it finds a loop that needs no fixed width."""
    return next((name for name in _VECTORS if name in features), "scalar")


def report(chosen: Iterable[tuple[ChosenKernel, int]]) -> list[str]:
    """Lines for a person: kernels that are alike, with the number of their calls, in order of appearance."""
    calls: Counter[tuple[str, str, str]] = Counter()
    for kernel, count in chosen:
        calls[kernel.kind, kernel.instructions, kernel.slow] += count
    return [
        f"{kind}: {instructions}, {count} call{'s' if count > 1 else ''}{f'; slow: {slow}' if slow else ''}"
        for (kind, instructions, slow), count in calls.items()
    ]


def unused(features: frozenset[str], implied: frozenset[str]) -> str:
    """The instruction set that products would get if ``implied`` of the CPU's name were listed too; "" when none."""
    best, possible = choose_isa(features), choose_isa(features | implied)
    return "" if possible == best else possible.name


def _product(name: str, product: Product, best: Isa) -> ChosenKernel:
    m, k, n, isa = product.m, product.k, product.n, product.isa
    slow = ""
    if n % isa.columns != 0:
        slow = f"N = {n} is no multiple of {isa.columns}, so that no instruction for products is used"
    elif isa == GENERIC:
        slow = best.misfit(m, k, n) if best != GENERIC else "no feature of the target multiplies codes"
    return ChosenKernel(name, f"product {m}x{k}x{n}", isa.name, slow)


def _codes(name: str, dot: CodeDot) -> ChosenKernel:
    slow = "no feature of the target multiplies pairs of codes" if dot.depth == 1 else ""
    return ChosenKernel(name, "int8 attention", dot.name, slow)


def _other(name: str, function: object, vectors: str) -> ChosenKernel:
    if as_convolution(function) is not None:
        return ChosenKernel(name, "convolution", vectors)
    if _multiplies_codes(function):
        slow = "not [M, K] times a constant [K, N], so its weights are not packed"
        return ChosenKernel(name, "product, not packed", vectors, slow)
    if as_attention(function) is not None:
        return ChosenKernel(name, _ROWS[RowKind.ATTENTION], vectors)
    kind = row_kind(to_prim_func(function, name))
    return ChosenKernel(name, _ROWS[kind], vectors, "neither vectors nor threads" if kind is RowKind.IN_ORDER else "")


def _multiplies_codes(function: object) -> bool:
    return any(
        op_name(value) == "relax.matmul" and all(dtype_of(arg) == "int8" for arg in value.args)
        for _, value in bindings_of(function)
    )
