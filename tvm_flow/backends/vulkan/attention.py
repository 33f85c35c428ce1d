"""softmax(f(Q K^T)) V in one pass over the keys: scores exist for a tile of keys at a time, in shared memory.

    Q [.., M, D], K^T [.., D, S], V [.., S, D] -> [.., M, D], all float32; f is elementwise, as a scale or a mask is

A workgroup of `SIDE` x `SIDE` invocations makes SIDE RM rows of one head, SIDE KN keys at a time; specialization
constants 0 (RM) and 1 (KN) are of `TILES`, by vendor, as far as shared memory allows. With the scores s_j of a tile,

    p' = max(p, max_j s_j),  c = exp(p - p'),  w_j = exp(s_j - p'),  t' = c t + sum_j w_j,  o' = c o + sum_j w_j v_j

and out = o / t after the last one; p begins at the least finite float, t and o at 0 (Milakov and Gimelshein 2018).

**Bound.** What the reference (`tvm_flow.numerics.bounded`) allows a kernel that has whole rows is enough. With unit
roundoff u, against out = sum_j share_j v_j and relative to sum_j share_j |v_j|, it grants 8 u for exp in weights and in
their sum, (S - 1) u for that sum in any order, u for the division, S u for the product. Here, if p rises R times after
key j, R < T for T tiles,

    exp           its error of 4 u at most 1 + R times, in o and in t alike: 8 (1 + R) u; exp(0) is 1 exactly, so a
                  tile that does not raise p costs nothing
    its argument  s_j - p and then p - p' are rounded by u of their sizes, all of one sign, which add up to the size of
                  s_j less the row's maximum: what one subtraction is granted
    c o and c t   2 R u
    o             a product and sums of S terms: S u
    t             an invocation adds its KN keys of each tile, and SIDE invocations' sums are added: A u with
                  A = KN T + SIDE - 2, and no more than S - 1
    o / t         u, in place of the rounding of each share

which is within that if 10 (T - 1) + A + 1 <= S, or T = 1: `as_streaming` takes no tile that is too small for the row.
Shares stay below 1 and t above 1 as the reference takes for granted: exp of what is not positive is at most 1, and the
largest score's weight is 1 and never scaled down. A weight that exp cuts to zero, once or several times, is below what
cutting it once may cost. At the ends of the range it is otherwise: a device that flushes subnormal numbers may lose
2^-126 of o in each tile; and sums before the division are t times as large as the result, so values beyond 3e38 / S may
overflow where shares would not, as on the CPU (`tvm_flow.backends.cpu.attention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tvm import relax

from tvm_flow.graph.lifted import BlockBuilder, bindings_of, call_with, dtype_of, op_name, shape_of
from tvm_flow.graph.types import Expr, Relax
from tvm_flow.target.vulkan_device import VulkanDevice

SIDE = 8
ELEMENTWISE = {"relax.add", "relax.subtract", "relax.multiply", "relax.divide"}
WIDE, SMALL = ((4, 4), (2, 4), (1, 4), (1, 2), (1, 1)), ((2, 4), (1, 4), (1, 2), (1, 1))
TILES: Mapping[str, tuple[tuple[int, int], ...]] = {
    **dict.fromkeys(("adreno", "amd", "intel", "llvmpipe", "nvidia"), WIDE),
    **dict.fromkeys(("arm", "imagination", "v3d", "unknown"), SMALL),
}
"""(RM, KN) by vendor, of which the first is taken that fits; starting points for a tuner, as those of products."""


@dataclass(frozen=True)
class Attention:
    """Softmax of ``scores`` between two products over the arguments ``q``, ``k`` and ``v``, with its tile."""

    batch: tuple[int, ...]
    rows: int
    keys: int
    channels: int
    arguments: tuple[int, int, int]
    """Positions of Q, K^T and V."""
    scores: Relax
    """What softmax is taken of, as a function of the kernel's arguments at ``read``."""
    read: tuple[int, ...]
    tile: tuple[int, int] = (1, 1)

    @property
    def line(self) -> int:
        """vec4 from a row of channels in shared memory to the next; odd, so that neighbours lie in other banks."""
        return -(-self.channels // 4) | 1

    @property
    def shared_bytes(self) -> int:
        """Queries, a tile of keys and then of values, its weights, and for each row what invocations found."""
        rm, kn = self.tile
        return 4 * SIDE * (4 * self.line * (rm + kn) + SIDE * rm * kn + SIDE * rm)

    @property
    def within_bound(self) -> bool:
        """See the module."""
        tiles = -(-self.keys // (SIDE * self.tile[1]))
        added = min(self.tile[1] * tiles + SIDE - 2, self.keys - 1)
        return tiles == 1 or 10 * (tiles - 1) + added + 1 <= self.keys


def as_streaming(function: Relax, device: VulkanDevice) -> Attention | None:
    """The attention that ``function`` is, with a tile that ``device`` has room for; None for another, or without one.

    Every head has keys and values of its own, of as many channels as queries have, which are arguments as they are.
    """
    found = _attention(function)
    if found is None:
        return None
    most = (-(-found.rows // SIDE), -(-found.keys // SIDE))
    fitting = (replace(found, tile=(min(rm, most[0]), min(kn, most[1]))) for rm, kn in TILES[device.vendor])
    return next((a for a in fitting if a.shared_bytes <= device.shared_bytes and a.within_bound), None)


def _attention(function: Relax) -> Attention | None:
    values = dict(bindings_of(function))

    def operands(var: Expr | None, operator: str) -> tuple[Expr | None, ...]:
        """Of the ``operator`` that ``var`` is; of another nothing, for one or two."""
        while values.get(var) in values:
            var = values[var]
        call = values.get(var)
        return tuple(call.args) if call is not None and op_name(call) == operator else (None, None)

    shares, v = operands(function.body.body, "relax.matmul")
    powers, total = operands(shares, "relax.divide")
    scores, peak = operands(operands(powers, "relax.exp")[0], "relax.subtract")
    if scores is None or operands(total, "relax.sum")[0] != powers or operands(peak, "relax.max")[0] != scores:
        return None
    before = dict(list(values.items())[: list(values).index(scores) + 1])
    products = [call for call in before.values() if op_name(call) == "relax.matmul"]
    if len(products) != 1 or not {op_name(call) for call in before.values()} <= ELEMENTWISE | {"relax.matmul"}:
        return None
    place = {parameter: position for position, parameter in enumerate(function.params)}
    (q, k), (*batch, rows, keys) = products[0].args, shape_of(scores)
    if not {q, k, v} <= place.keys() or {shape_of(found) for found in (total, peak)} != {(*batch, rows, 1)}:
        return None
    channels = shape_of(q)[-1]
    wanted = {q: (*batch, rows, channels), k: (*batch, channels, keys), v: (*batch, keys, channels)}
    if any(shape_of(var) != shape or dtype_of(var) != "float32" for var, shape in wanted.items()):
        return None
    read = [parameter for parameter in function.params if any(parameter in call.args for call in before.values())]
    made, positions = _function(read, before), tuple(place[parameter] for parameter in read)
    return Attention(tuple(batch), rows, keys, channels, (place[q], place[k], place[v]), made, positions)


def _function(parameters: list[Expr], bindings: Mapping[Expr, Expr]) -> Relax:
    """The last of ``bindings``, over copies of ``parameters``."""
    block = BlockBuilder()
    local = {parameter: relax.Var(parameter.name, parameter.ty) for parameter in parameters}
    with block.function("scores", list(local.values())):
        with block.dataflow():
            for var, call in bindings.items():
                local[var] = block.emit(call_with(call, [local.get(arg, arg) for arg in call.args]))
            output = block.emit_output(local[var])
        block.emit_func_output(output)
    return block.get()["scores"]
