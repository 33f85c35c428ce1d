"""The attention that a kernel is, where it is softmax(steps(Q K^T)) V between moves and elementwise steps.

    q, k, v    views of parameters (a part of a product's columns, say), and what is done to each element; to a token's
               channels in a head together, where q and k are normed or rotated
    output     where each element goes, in which order of dimensions, and what is done to it before: to codes, say

Nothing is copied for a view: the kernel reads the parameter where it lies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm_flow.backends.cpu.moved import Step, Values, Written, along_rows, arguments_of, steps_before, written_of
from tvm_flow.backends.cpu.operand_rows import Read, read_of
from tvm_flow.backends.cpu.views import whole
from tvm_flow.graph.lifted import bindings_of, dtype_of, returned
from tvm_flow.graph.types import Expr, Relax, Var


@dataclass(frozen=True)
class Attention:
    """q [.., M, D], k transposed [.., D, S] and v [.., S, E], float32, to [.., M, E].

    ``steps`` come between the first product and the softmax, in order: a scale, a mask.
    """

    parameters: tuple[Var, ...]
    q: Read
    k: Read
    v: Read
    steps: tuple[Step, ...]
    written: Written

    @property
    def batch(self) -> tuple[int, ...]:
        """The dimensions before M, D, S and E, which all three share."""
        return self.q.view.shape[:-2]

    @property
    def rows(self) -> int:
        """M."""
        return self.q.view.shape[-2]

    @property
    def depth(self) -> int:
        """D."""
        return self.q.view.shape[-1]

    @property
    def keys(self) -> int:
        """S."""
        return self.v.view.shape[-2]

    @property
    def channels(self) -> int:
        """E."""
        return self.v.view.shape[-1]

    @property
    def products(self) -> int:
        """Multiplications of the second product."""
        return math.prod(self.batch) * self.rows * self.keys * self.channels

    @property
    def in_place(self) -> bool:
        """Whether it reads, or writes, anything but whole tensors in its own order."""
        parts = [each.view for each in (self.q, self.k, self.v)]
        elsewhere = any(view != whole(view.shape) for view in [*parts, self.written.view])
        return elsewhere or any(each.steps for each in (self.q, self.k, self.v, self.written))


def as_attention(function: Relax) -> Attention | None:
    """What ``function`` computes, or None where it is something else or broadcasts its batches."""
    values, given = dict(bindings_of(function)), tuple(function.params)
    found = written_of(values, given, returned(function))
    product = None if found is None else arguments_of(values, found[0], "relax.matmul")
    scores = None if product is None else _below_softmax(values, product[0])
    inner = None if scores is None else _product_and_steps(values, given, scores)
    if found is None or product is None or inner is None:
        return None
    (q, k), steps = inner
    reads = [read for each in (q, k, product[1]) if (read := read_of(values, given, each)) is not None]
    if len(reads) < 3 or any(dtype_of(read.source) != "float32" or read.to_codes for read in reads):
        return None
    if not (reads[0].has_rows_along(-1) and reads[1].has_rows_along(-2)) or reads[2].by_row:
        return None
    attention = Attention(given, reads[0], reads[1], reads[2], steps, found[1])
    shapes = [each.view.shape for each in (attention.q, attention.k, attention.v)]
    return attention if all(len(s) > 2 and s[:-2] == attention.batch for s in shapes) else None


def _below_softmax(values: Values, weights: Expr) -> Var | None:
    """What ``weights`` is the softmax of, along its last axis."""
    divided = arguments_of(values, weights, "relax.divide")
    power = divided and arguments_of(values, divided[0], "relax.exp")
    shifted = power and arguments_of(values, power[0], "relax.subtract")
    if not divided or not shifted:
        return None
    scores, top = shifted
    totals, peaks = (along_rows(values, *pair) for pair in ((divided[1], "relax.sum"), (top, "relax.max")))
    right = totals is not None and totals.same_as(divided[0]) and peaks is not None and peaks.same_as(scores)
    return scores if right else None


def _product_and_steps(
    values: Values, given: tuple[Var, ...], scores: Var
) -> tuple[tuple[Var, Var], tuple[Step, ...]] | None:
    """The operands of the product that ``scores`` is made of, and what is done to it; None where that is no chain."""
    found = steps_before(values, given, scores)
    product = None if found is None else arguments_of(values, found[0], "relax.matmul")
    return ((product[0], product[1]), found[1]) if found and product else None
