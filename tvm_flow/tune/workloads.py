"""What identifies a kernel, and whatever else a measurement depends on: the keys of records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import tvm_ffi

from tvm_flow.backends.cpu.choices import Choice, choice_from_json, choice_to_json
from tvm_flow.backends.cpu.float_product import noted_float_product
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.cpu.spaces import with_choices
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.check.kernels import scheduled_kernel
from tvm_flow.errors import BuildError
from tvm_flow.graph.types import PrimFunc
from tvm_flow.lower.interrupted import interrupts_kept
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.versions import compiler_versions
from tvm_flow.tune.entries import DEFAULT, Key, canonical, parsed

METHOD = "paired-1"
"""Version of `tvm_flow.tune.rounds`: samples of another one are not comparable."""


@cache
def compilers_text() -> str:
    """Versions of all compilers; raises BuildError when one is not installed."""
    return ", ".join(f"{name} {version}" for name, version in compiler_versions().items())


def key_of(workload: str, target: TargetSpec, threads: int, method: str = METHOD) -> Key:
    """The key of measurements of ``workload`` on ``threads`` threads of ``target``."""
    features = " ".join([*sorted(target.features), *(f"-{name}" for name in sorted(target.disabled))])
    return Key(workload, f"{target.triple} {target.cpu}", features, compilers_text(), f"{method} threads={threads}")


def workload_hash(packed: PackedProgram, kernel: str) -> str:
    """Of what ``kernel`` computes and on which instruction set, whatever it is called and wherever it stands."""
    product = packed.products.get(kernel)
    return _hash(packed.program.kernels[kernel]) + (f"-{product.isa.name}" if product else "")


def code_hash(function: PrimFunc) -> str:
    """Of a scheduled kernel: equal hashes are compiled to equal code."""
    return _hash(function.without_attr("global_symbol"))


def scheduled(packed: PackedProgram, kernel: str, candidate: str) -> PrimFunc:
    """The kernel as ``candidate`` (`DEFAULT`: as the default) schedules it; raises BuildError for one of another."""
    with interrupts_kept():
        return scheduled_kernel(with_choices(packed, choices_of(kernel, candidate)), kernel)


def choices_of(kernel: str, candidate: str) -> Mapping[str, Choice]:
    """For `with_choices`; raises BuildError for a text that describes no choice."""
    if candidate == DEFAULT:
        return {}
    try:
        return {kernel: choice_from_json(parsed(candidate))}
    except ValueError as error:
        raise BuildError(f"candidate {candidate!r}: expected JSON, got: {error}; tune again") from error


def candidate_of(choice: Choice) -> str:
    """Its text in a record."""
    return canonical(choice_to_json(choice))


def in_words(packed: PackedProgram, kernel: str) -> str:
    """For people: shapes of a product or an attention, else the kernel's name and output; the start of its hash."""
    product, mark = packed.products.get(kernel), workload_hash(packed, kernel)[:4]
    if product is not None:
        more = " and what follows" if product.epilogue else ""
        return f"product {product.m}x{product.k}x{product.n}{more} [{mark}]"
    if (floats := noted_float_product(packed, kernel)) is not None:
        return f"floats {floats.m}x{floats.k}x{floats.n} [{mark}]"
    if (attention := as_attention(packed.program.kernels[kernel])) is not None:
        heads = math.prod(attention.batch)
        return f"attention {heads}x{attention.rows}x{attention.keys}x{attention.channels} [{mark}]"
    call = next(call for call in packed.program.calls if call.kernel == kernel)
    shape = "x".join(map(str, packed.program.tensors[call.output].shape))
    return f"{kernel.partition('_')[2] or 'copy'} {shape} [{mark}]"


def _hash(value: Any) -> str:
    return f"{tvm_ffi.structural_hash(value, map_free_vars=True) & (2**64 - 1):016x}"
