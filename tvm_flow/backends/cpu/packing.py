"""Weights laid out for the kernel that reads them, at build time.

An integer product of a constant matrix reads its weights as [N / columns, K / depth, columns, depth] (see
`tvm_flow.backends.cpu.gemm`). The program keeps the meaning of the kernel in terms of the plain [K, N] matrix and notes
the packing beside it, so that the reference can undo it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tvm_flow.backends.cpu.generic import GENERIC
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.graph.constants import Array, Constant, Derived
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.graph.names import made_up
from tvm_flow.graph.program import KernelCall, Program, TensorSpec


@dataclass(frozen=True)
class Product:
    """An integer product kernel: C[m, n] int32 = X[m, k] int8 times W[k, n] int8, weights packed for ``isa``.

    X and W are the first two arguments; with an ``epilogue`` the kernel writes what it makes of C, not C.
    """

    m: int
    k: int
    n: int
    isa: Isa
    epilogue: bool = False

    def packed_shape(self) -> tuple[int, int, int, int]:
        """Shape in which the weights are stored."""
        return (-(-self.n // self.isa.columns), self.k // self.isa.depth, self.isa.columns, self.isa.depth)

    def unpack(self, packed: Array) -> Array:
        """The plain int8 [K, N] matrix."""
        blocks, steps, columns, depth = self.packed_shape()
        plain = packed.transpose(1, 3, 0, 2).reshape(steps * depth, blocks * columns)
        return np.ascontiguousarray(plain[:, : self.n])


@dataclass(frozen=True)
class PackedProgram:
    """A program whose integer products read packed weights; ``products`` is keyed by kernel name."""

    program: Program
    constants: dict[str, Constant]
    products: Mapping[str, Product]


def pack_weights(program: Program, isa: Isa) -> PackedProgram:
    """Let every integer product of a constant matrix read its weights packed for ``isa``."""
    products = {
        name: product
        for name, function in program.kernels.items()
        if (product := as_product(function, isa)) is not None
    }
    constants = dict(program.graph.constants)
    for call in program.calls:
        if call.kernel in products and call.args[1] not in constants:
            del products[call.kernel]
    tensors, calls = dict(program.tensors), []
    names: dict[Constant, str] = {}
    for call in program.calls:
        calls.append(call)
        if call.kernel in products:
            weight = call.args[1]
            product = products[call.kernel]
            options = (product.isa.columns, product.isa.depth)
            constant = Derived("pack_columns", (program.graph.constants[weight],), options)
            if constant not in names:
                names[constant] = made_up(f"{weight}.packed_{options[0]}x{options[1]}", tensors)
            packed = names[constant]
            constants[packed] = constant
            tensors[packed] = TensorSpec(product.packed_shape(), "int8")
            calls[-1] = KernelCall(call.kernel, (call.args[0], packed, *call.args[2:]), call.output)
    used = {name for call in calls for name in call.args}
    constants = {name: constant for name, constant in constants.items() if name in used}
    return PackedProgram(replace(program, calls=tuple(calls), tensors=tensors), constants, products)


def as_product(function: Any, isa: Isa) -> Product | None:
    """The integer product, with its epilogue, that ``function`` is; None for any other kernel."""
    (_, first), *rest = [(var, value) for var, value in bindings_of(function) if op_name(value)] or [(None, None)]
    if op_name(first) != "relax.matmul":
        return None
    x, w = first.args
    if (dtype_of(x), dtype_of(w)) != ("int8", "int8") or len(shape_of(x)) != 2 or len(shape_of(w)) != 2:
        return None
    if not (x.same_as(function.params[0]) and w.same_as(function.params[1])):
        return None
    (m, k), (_, n) = shape_of(x), shape_of(w)
    while not isa.fits(m, k, n):
        isa = isa.fallback or GENERIC
    return Product(m, k, n, isa, bool(rest))
