"""Accumulators of products whose epilogue reads them before they reach memory.

A fused kernel's sums cannot be seen from outside. Their exactness is shown by the same product without the epilogue:
one TIR definition, one schedule of the accumulation, one compiler, one target; only what follows the sums differs. The
products of a program are linked into a small program of their own (runtime/emulate/sums.c), which runs beside the check
on this machine or under qemu, and adds up what the traced kernels were given.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from tvm_flow.backends.cpu.codegen import compile_object
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import Array
from tvm_flow.target.spec import TargetSpec
from tvm_flow.toolchain.link import EMULATE
from tvm_flow.toolchain.zig import zig_cc

_FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-s")


@dataclass(frozen=True)
class SumsProgram:
    """The linked program: ``command`` starts it, its kernels are those of ``products``, in order."""

    command: tuple[str, ...]
    products: tuple[Product, ...]

    def start(self) -> SumsProcess:
        """Run it; close the result when done."""
        process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return SumsProcess(self, process)


class Sums(Protocol):
    """What adds up."""

    def accumulate(self, product: Product, x: Array, packed: Array) -> Array:
        """int32 [M, N] of int8 x [M, K] and the packed weights; raises BuildError when that fails."""


class StartsSums(Protocol):
    """Products, linked for a machine."""

    def start(self) -> AbstractContextManager[Sums]:
        """Ready on that machine, until it is closed."""


class SumsProcess:
    """A running `SumsProgram`; a context manager."""

    def __init__(self, program: SumsProgram, process: subprocess.Popen[bytes]) -> None:
        self.program, self.process = program, process

    def __enter__(self) -> SumsProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def accumulate(self, product: Product, x: Array, packed: Array) -> Array:
        """See `Sums.accumulate`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        size = product.m * product.n * 4
        try:
            self.process.stdin.write(struct.pack("<I", self.program.products.index(without_epilogue(product))))
            self.process.stdin.write(np.ascontiguousarray(x).data)
            self.process.stdin.write(np.ascontiguousarray(packed).data)
            self.process.stdin.flush()
            data = self.process.stdout.read(size)
        except BrokenPipeError:
            data = b""
        if len(data) != size:
            self.process.kill()
            _, words = self.process.communicate()
            raise BuildError(
                f"{' '.join(self.program.command)}: expected {size} bytes of sums for {product}, got {len(data)}: "
                f"{words.decode(errors='replace')[-500:] or 'it said nothing'}; report this target"
            )
        return np.frombuffer(data, "<i4").reshape(product.m, product.n)


def without_epilogue(product: Product) -> Product:
    """The same product, its sums the output."""
    return replace(product, epilogue=False)


def fused(products: Iterable[Product]) -> tuple[Product, ...]:
    """Those whose sums cannot be seen, each once, without its epilogue."""
    return tuple(dict.fromkeys(without_epilogue(product) for product in products if product.epilogue))


def compile_sums(products: Sequence[Product], target: TargetSpec, output: Path) -> tuple[str, ...]:
    """Write the object ``output``; the kernels of ``products`` by name, in order. Raises BuildError."""
    kernels = {f"sums{i}": gemm(f"sums{i}", p.m, p.k, p.n, p.isa, p.tiling) for i, p in enumerate(products)}
    compile_object(kernels, target.tvm(), output)
    return tuple(kernels)


def link_sums(
    products: Iterable[Product], target: TargetSpec, folder: Path, prefix: Sequence[str] = ()
) -> SumsProgram | None:
    """Compile and link the fused ones among ``products`` in ``folder``; None when there are none.

    ``prefix`` is the emulator's command; then the program is static. Raises BuildError when it does not compile.
    """
    chosen = fused(products)
    if not chosen:
        return None
    compile_sums(chosen, target, folder / "sums.o")
    (folder / "sums_table.c").write_text(_table(chosen))
    triple = f"{target.triple.split('-')[0]}-linux-musl" if prefix else target.zig_triple
    arguments = (
        *(*_FLAGS, *(["-static"] if prefix else []), f"-I{EMULATE}", "-o", str(folder / "sums")),
        *(str(EMULATE / "sums.c"), str(folder / "sums_table.c"), str(folder / "sums.o")),
    )
    zig_cc(arguments, "sums", triple)
    return SumsProgram((*prefix, str(folder / "sums")), chosen)


def _table(products: Sequence[Product]) -> str:
    """C of the table that sums.h declares."""
    names = [f"__tvm_ffi_sums{i}" for i in range(len(products))]
    declarations = "".join(f"extern int {name}(void *, const void *, int32_t, void *);\n" for name in names)
    rows = [
        f"{{{name}, {p.m}, {p.k}, {p.n}, {p.packed_shape()[0]}, {p.packed_shape()[2]}, {p.isa.depth}}}"
        for name, p in zip(names, products, strict=True)
    ]
    table = f"const sums_kernel sums_kernels[] = {{{', '.join(rows)}}};\n"
    return f'#include "sums.h"\n{declarations}{table}const uint32_t sums_count = {len(rows)};\n'
