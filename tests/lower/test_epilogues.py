"""Products with their epilogues, for every instruction set of this machine, against the reference."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from support.execution import HOST, Array, allocated, call_kernel, compare, compile_functions
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu import arm
from tvm_flow.backends.cpu.gemm import PARALLEL_MACS, schedule_gemm
from tvm_flow.backends.cpu.isa import Isa, registered_isas
from tvm_flow.backends.cpu.packing import Product, as_product
from tvm_flow.backends.cpu.products import product_prim_func
from tvm_flow.bench.mca import inner_loop
from tvm_flow.graph.constants import RULES
from tvm_flow.numerics.reference import execute
from tvm_flow.target.spec import load_target

RUNNABLE = [isa for isa in registered_isas() if isa.features <= HOST.features]
KINDS = ("plain", "gelu", "gate", "zero_point")
SHAPES = [(1, 16, 96), (7, 24, 96), (13, 8, 192), (5, 10, 20), (3, 8, 1)]
"""M, K, N: one row, prime numbers of rows, columns that no tile divides."""


def linear(kind: str, m: int, k: int, n: int) -> Any:
    """The Relax function of an integer linear and what a step graph makes of it."""
    block = relax.BlockBuilder()
    emit = block.emit
    names = {"x": ((m, k), "int8"), "w": ((k, n), "int8")}
    if kind == "zero_point":
        names["correction"] = ((n,), "int32")
    names |= {"scale": ((n,), "float32"), "bias": ((n,), "float32")}
    if kind == "gelu":
        names["step"] = ((), "float32")
    if kind == "gate":
        names |= {"gate": ((n,), "float32"), "residual": ((m, n), "float32")}
    p = {name: relax.Var(name, relax.TensorType(list(shape), dtype)) for name, (shape, dtype) in names.items()}
    with block.function("main", list(p.values())):
        with block.dataflow():
            acc = emit(R.matmul(p["x"], p["w"], out_dtype="int32"))
            if kind == "zero_point":
                acc = emit(R.add(acc, p["correction"]))
            y = emit(R.add(emit(R.multiply(emit(R.astype(acc, "float32")), p["scale"])), p["bias"]))
            if kind == "gelu":
                y = emit(R.divide(y, emit(R.add(emit(R.exp(y)), relax.const(1.0, "float32")))))
                y = emit(R.astype(emit(R.clip(emit(R.round(emit(R.divide(y, p["step"])))), -128, 127)), "int8"))
            if kind == "gate":
                y = emit(R.add(p["residual"], emit(R.multiply(y, p["gate"]))))
            output = block.emit_output(y)
        block.emit_func_output(output)
    return block.get()["main"]


def operands(function: Any, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    made: list[Array] = []
    for p in function.params:
        shape = tuple(int(extent) for extent in p.ty.shape)
        if str(p.ty.dtype) == "float32":
            made.append(np.asarray(rng.standard_normal(shape) * 0.01 + (0.02 if shape == () else 0), np.float32))
        else:
            made.append(rng.integers(-128, 128, shape).astype(str(p.ty.dtype)))
    return made


def fused(name: str, function: Any, isa: Isa) -> tuple[Product, Any]:
    product = as_product(function, isa)
    assert product is not None and product.epilogue
    plain = product_prim_func(function, product, name)
    scheduled = schedule_gemm(plain, product.m, product.k, product.n, product.isa)
    return product, scheduled.with_attr("global_symbol", name)


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_every_epilogue_on_every_shape(isa: Isa) -> None:
    cases = {f"{kind}_{m}_{k}_{n}": linear(kind, m, k, n) for kind in KINDS for m, k, n in SHAPES}
    made = {name: fused(name, function, isa) for name, function in cases.items()}
    module = compile_functions({name: scheduled for name, (_, scheduled) in made.items()})
    for name, function in cases.items():
        product, _ = made[name]
        inputs = operands(function, len(name))
        out = function.body.body.ty
        packed = RULES["pack_columns"](inputs[1], product.isa.columns, product.isa.depth)
        given = [inputs[0], packed, *inputs[2:]]
        got = call_kernel(module, name, given, (product.m, product.n), str(out.dtype))
        compare(execute(function, inputs), got, name)


def test_sums_do_not_travel_through_memory() -> None:
    """No int32 buffer is larger than a register tile, but for the row sums of unsigned codes."""
    m, n = 64, 192
    for isa in RUNNABLE:
        _, function = fused("f", linear("gate", m, 64, n), isa)
        sizes = [elements for elements, dtype in allocated(function) if dtype == "int32"]
        assert sizes and max(sizes) <= max(m if isa.biased else 0, isa.rows * isa.columns), isa.name


@pytest.mark.parametrize("isa", RUNNABLE, ids=lambda isa: isa.name)
def test_large_ones_run_in_parallel(isa: Isa) -> None:
    m, k, n = 72, 128, 192
    assert m * k * n >= PARALLEL_MACS
    assert "T.parallel" in str(fused("large", linear("gelu", m, k, n), isa)[1])
    assert "T.parallel" not in str(fused("small", linear("gelu", 8, 16, 96), isa)[1])


@pytest.mark.parametrize(
    ("isa", "target", "mnemonic"),
    [(arm.NEON, "raspberry-pi-4", "sadalp"), (arm.SDOT, "raspberry-pi-5", "sdot"), (arm.SMMLA, "neoverse-n2", "smmla")],
    ids=["neon", "sdot", "smmla"],
)
def test_no_sum_is_spilled_where_codes_are_multiplied(isa: Isa, target: str, mnemonic: str) -> None:
    """An epilogue's constants take registers too: with too large a tile the inner loop would store sums."""
    functions = {kind: fused(kind, linear(kind, 64, 1152, 1152), isa)[1] for kind in ("gelu", "gate")}
    assembly = tvm.tirx.build(tvm.IRModule(functions), target=load_target(target).tvm()).inspect_source("s")
    for part in re.split(r"\n(?=\w+:\n)", assembly):
        if f"\t{mnemonic}\t" in part:
            loop = inner_loop(part, mnemonic)
            assert not [line for line in loop.lines if line.startswith(("st", "str"))], loop.lines
