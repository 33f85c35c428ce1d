"""What can be chosen of a kernel as it stands in a packed program, and how a choice gets there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tvm_flow.backends.cpu.attention import divided_last
from tvm_flow.backends.cpu.attention_tiles import streamed_default, streamed_space, streams
from tvm_flow.backends.cpu.candidates import float_space, other_threads, product_space
from tvm_flow.backends.cpu.choices import Choice, FloatChoice, ProductChoice, product_default
from tvm_flow.backends.cpu.code_dots import noted_dot
from tvm_flow.backends.cpu.convolution import as_convolution
from tvm_flow.backends.cpu.float_product import FloatProduct, noted_float_product
from tvm_flow.backends.cpu.registers import PLAIN, noted_registers
from tvm_flow.backends.cpu.row_candidates import row_choices
from tvm_flow.backends.cpu.rows import row_default
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.cpu.tiling import PARALLEL_MACS
from tvm_flow.backends.packed import CPU, PackedProgram
from tvm_flow.errors import BuildError
from tvm_flow.lower.legalize import to_prim_func

FEWEST_MACS = 1 << 13
"""Of a float product that is worth a choice: below, a call costs more than its loop."""


def space(packed: PackedProgram, kernel: str) -> list[Choice]:
    """Choices for ``kernel`` beside its default, the most promising first; none for what is not tuned."""
    function, product = packed.program.kernels[kernel], packed.products.get(kernel)
    if packed.device_of(kernel) != CPU or as_convolution(function) is not None or noted_dot(packed, kernel):
        return []
    if (floats := noted_float_product(packed, kernel)) is not None:
        return _floats(floats)
    if product is not None:
        macs = product.m * product.k * product.n
        found = product_space(product, parallel := macs >= PARALLEL_MACS)
        return [*other_threads(product_default(product, parallel), macs, PARALLEL_MACS), *found] if found else []
    attention, registers = as_attention(function), noted_registers(packed, kernel)
    if attention is not None and streams(attention):
        return streamed_space(attention, registers or PLAIN)
    return row_choices(to_prim_func(divided_last(function), kernel), registers)


def default_choice(packed: PackedProgram, kernel: str) -> Choice | None:
    """What the default schedule of ``kernel`` comes to; None for what is not tuned."""
    function, product = packed.program.kernels[kernel], packed.products.get(kernel)
    if product is not None:
        return product_default(product, product.m * product.k * product.n >= PARALLEL_MACS)
    if (floats := noted_float_product(packed, kernel)) is not None:
        return floats.default
    attention, registers = as_attention(function), noted_registers(packed, kernel)
    if attention is not None and streams(attention):
        return streamed_default(attention, registers or PLAIN)
    if as_convolution(function) is not None or noted_dot(packed, kernel) is not None:
        return None
    return row_default(to_prim_func(divided_last(function), kernel), registers)


def _floats(product: FloatProduct) -> list[Choice]:
    if product.macs < FEWEST_MACS:
        return []
    others = other_threads(product.default, product.macs, PARALLEL_MACS)
    vectors = product.n // product.lanes
    return [*others, *float_space(product.m, product.batch[-1], vectors, product.default)]


def with_choices(packed: PackedProgram, choices: Mapping[str, Choice]) -> PackedProgram:
    """``packed`` with its kernels scheduled by ``choices``; those without one by the default.

    Raises BuildError for a choice of another kind of kernel.
    """
    products, others = dict(packed.products), {}
    for kernel, choice in choices.items():
        floats = noted_float_product(packed, kernel) is not None
        if (kernel in products, floats) != (isinstance(choice, ProductChoice), isinstance(choice, FloatChoice)):
            raise BuildError(f"kernel {kernel}: expected a choice of its kind, got {choice}; tune again")
        if isinstance(choice, ProductChoice):
            products[kernel] = replace(products[kernel], tiling=choice)
        else:
            others[kernel] = choice
    return replace(packed, products=products, choices=others)
