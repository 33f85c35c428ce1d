"""The CPU as a backend: it runs every kernel that TVM can schedule, integer products by instruction set."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tvm_flow.backends.base import Artifacts, CompileJob, Kernel, Offer
from tvm_flow.backends.cpu.around_attention import attention_runs
from tvm_flow.backends.cpu.code_attention import as_code_attention
from tvm_flow.backends.cpu.code_dots import dot_of
from tvm_flow.backends.cpu.code_tiles import fits
from tvm_flow.backends.cpu.codegen import compile_object, scheduled_kernels
from tvm_flow.backends.cpu.convolution import as_convolution, weight_layout
from tvm_flow.backends.cpu.float_product import as_float_product
from tvm_flow.backends.cpu.isa import Isa, choose_isa
from tvm_flow.backends.cpu.packing import Product, as_product
from tvm_flow.backends.cpu.registers import registers_of
from tvm_flow.backends.packed import CPU, Refusal
from tvm_flow.graph.lifted import bindings_of, op_name
from tvm_flow.graph.program import Program
from tvm_flow.numerics.operators import INTEGERS
from tvm_flow.target.spec import TargetSpec

WEIGHT = 1
"""Position of a product's matrix among its arguments."""


@dataclass(frozen=True)
class CpuBackend:
    """See the module. ``isa`` overrides what the target's features allow."""

    isa: Isa | None = None

    @property
    def name(self) -> str:
        """See `tvm_flow.backends.base.Backend`."""
        return CPU

    @property
    def version(self) -> str:
        """See `tvm_flow.backends.base.Backend`."""
        return ""

    def offers(self, kernel: Kernel, target: TargetSpec) -> Offer | Refusal:
        """Products of a constant matrix with it packed, anything else in plain order of rows."""
        if any(op_name(value) == INTEGERS for _, value in bindings_of(kernel.function)):
            return Refusal(
                "blocks in integers have no kernels of the CPU;",
                "name a target whose backends begin with npu_arm, as npu-arm-emulated, or a recipe between float",
            )
        isa = self.isa or choose_isa(target.features)
        product = as_product(kernel.function, isa)
        if product is not None and kernel.constant[WEIGHT]:
            product = _bounded(product, kernel)
            narrow = product.isa.with_narrow_weights()
            if kernel.narrow and kernel.narrow[WEIGHT] and narrow.fits(product.m, product.k, product.n):
                product = replace(product, isa=narrow)
            return Offer(f"int8 product, {product.isa.name}", product, {WEIGHT: product.isa.layout})
        codes = as_code_attention(kernel.function)
        if codes is not None and fits(codes):
            dot = dot_of(target.features)
            return Offer(f"int8 attention, {dot.name}", dot)
        registers = registers_of(target.features)
        floats = as_float_product(kernel.function, registers)
        if floats is not None and kernel.constant[WEIGHT]:
            return Offer("float32 product", floats, {WEIGHT: floats.layout})
        if (shapes := as_convolution(kernel.function)) is not None:
            packed = {WEIGHT: weight_layout(shapes, registers)} if kernel.constant[WEIGHT] else {}
            return Offer("convolution", registers, packed)
        return Offer("rows", registers)

    def runs(self, program: Program, mine: Container[str]) -> list[range]:
        """Attentions with what moves and scales their operands, and makes codes of what they give."""
        return attention_runs(program, mine)

    def compile(self, job: CompileJob, folder: Path) -> Artifacts:
        """One object file in which kernel NAME is ``__tvm_ffi_<prefix>NAME``."""
        called = {job.packed.program.calls[i].kernel for segment in job.segments.values() for i in segment.calls}
        kernels = scheduled_kernels(job.packed, called)
        path = folder / f"{job.prefix}kernels.o"
        compile_object(_renamed(kernels, job.prefix), job.target.tvm(), path)
        return Artifacts((path,), {name: f"__tvm_ffi_{job.prefix}{name}" for name in kernels})

    def runtime_library(self) -> Path | None:
        """None: the runtime has the CPU."""
        return None


def _bounded(product: Product, kernel: Kernel) -> Product:
    """``product`` on what is faster for weights above -128, where it has that, fits it, and all of them are."""
    isa = product.isa.bounded
    if isa is None or not isa.fits(product.m, product.k, product.n) or not kernel.bounded(WEIGHT):
        return product
    return replace(product, isa=isa)


def _renamed(functions: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Groups have kernels of equal names, and a static program holds several groups."""
    return {prefix + name: f.with_attr("global_symbol", prefix + name) for name, f in functions.items()}
