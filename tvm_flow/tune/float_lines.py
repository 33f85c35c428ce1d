"""What kernels in float read again and again, and how many tasks they are: what `modelled` cannot see in their code.

Float products meet their weights as integer ones do (`cache_lines`); each row of a group is read as it lies.

    attention   K and V of a block, packed: once for each task and block where they and a group's scores fit into a
                cache of S bytes, else once for each group of rows
                scores of a group: not at all, or where they do not fit three times, written, weighed and multiplied
                a task's sums: once, or where they do not fit beside the rest once for each block
    rows        each element once, whatever is chosen: nothing
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm_flow.backends.cpu.attention_tiles import Layout, layout_of, streams
from tvm_flow.backends.cpu.choices import AttentionChoice, Choice, FloatChoice, RowsChoice
from tvm_flow.backends.cpu.float_product import FloatProduct, noted_float_product
from tvm_flow.backends.cpu.registers import PLAIN, noted_registers
from tvm_flow.backends.cpu.softmax import Attention, as_attention
from tvm_flow.backends.packed import PackedProgram

FLOAT = 4


@dataclass(frozen=True)
class Loads:
    """``tasks`` that a kernel's threads share; nothing that is read twice."""

    tasks: int

    def missed(self, _size: int) -> float:
        """Bytes that do not come from a cache of ``size`` bytes."""
        return 0.0


@dataclass(frozen=True)
class ProductLoads(Loads):
    """Of a float product."""

    product: FloatProduct
    choice: FloatChoice

    def missed(self, size: int) -> float:
        """See `Loads`."""
        k, columns = self.product.k, self.choice.vectors * self.product.lanes
        tile, strip = FLOAT * self.choice.rows * k, FLOAT * columns * k
        group, groups = self.choice.tiles * tile, self.product.m // (self.choice.rows * self.choice.tiles)
        weights, strips = FLOAT * k * self.product.n, self.product.n // columns
        read = groups if strip + tile <= size else groups * self.choice.tiles
        again = 1 if group + strip <= size else strips
        return float(weights * (1 if weights + group <= size else read) + groups * group * again)


@dataclass(frozen=True)
class AttentionLoads(Loads):
    """Of an attention that streams."""

    attention: Attention
    layout: Layout

    def missed(self, size: int) -> float:
        """See `Loads`."""
        lay = self.layout
        block = FLOAT * (lay.keys.padded * self.attention.depth + lay.keys.extent * lay.channels.padded)
        scores, sums = FLOAT * lay.group * lay.keys.padded, FLOAT * lay.task * lay.channels.padded
        groups = lay.task // lay.group
        packed = block * (1 if block + scores <= size else groups)
        spilled = 0 if scores <= size else 3 * scores * groups
        kept = sums / lay.blocks if sums + block + scores <= size else sums
        tasks = math.prod(self.attention.batch) * self.attention.rows // lay.task
        return float(tasks * lay.blocks * (packed + spilled + kept))


def loads_of(packed: PackedProgram, kernel: str, choice: Choice | None) -> Loads:
    """Of ``kernel``, which is no integer product, as ``choice`` has it."""
    floats, attention = noted_float_product(packed, kernel), as_attention(packed.program.kernels[kernel])
    if floats is not None and isinstance(choice, FloatChoice):
        tasks = floats.m // (choice.rows * choice.tiles) * (floats.n // (choice.vectors * floats.lanes))
        return ProductLoads(tasks if choice.parallel else 1, floats, choice)
    if attention is not None and streams(attention) and isinstance(choice, AttentionChoice):
        layout = layout_of(attention, noted_registers(packed, kernel) or PLAIN, choice)
        tasks = math.prod(attention.batch) * attention.rows // (layout.task * layout.tasks)
        return AttentionLoads(tasks if choice.parallel else 1, attention, layout)
    if choice is None or not choice.parallel:
        return Loads(1)
    shape = next(packed.program.tensors[call.output].shape for call in packed.program.calls if call.kernel == kernel)
    together = choice.rows if isinstance(choice, RowsChoice | AttentionChoice) else 1
    return Loads(max(math.prod(shape[:-1]) // max(together, 1), 1))
