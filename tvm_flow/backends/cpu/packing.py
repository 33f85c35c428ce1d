"""The integer products among a program's kernels, and the layout that each wants of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm_flow.backends.cpu.generic import GENERIC
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.tiling import Tiling
from tvm_flow.graph.constants import Array
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of


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
    tiling: Tiling | None = None
    """How its tiles lie; None: as the default schedule has it."""

    def packed_shape(self) -> tuple[int, int, int, int]:
        """Shape in which the weights are stored."""
        return self.isa.layout.shape((self.k, self.n))

    def unpack(self, packed: Array) -> Array:
        """The plain int8 [K, N] matrix."""
        return self.isa.layout.unpack(packed, (self.k, self.n))


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
