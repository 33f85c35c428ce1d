"""AArch64 kernels under qemu against exact integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.qemu import QEMU, assembly, run_gemm
from support.relax_kernels import Array, function_of, program_of
from tvm import relax
from tvm.relax import op as R

from tvm_flow.backends.cpu import Isa, arm, choose_isa, generic
from tvm_flow.backends.cpu.gemm import gemm
from tvm_flow.backends.cpu.packing import as_product
from tvm_flow.backends.place import pack_weights
from tvm_flow.errors import BuildError

CORES = [
    (generic.GENERIC, "cortex-a72"),
    (arm.NEON, "cortex-a72"),
    (arm.SDOT, "cortex-a76"),
    (arm.SMMLA, "neoverse-n2"),
    (arm.SMLAL, "cortex-a72"),
]
IDS = ["generic", "neon", "sdot", "smmla", "smlal"]


def least(isa: Isa) -> int:
    """The least weight that ``isa`` takes."""
    return -127 if isa is arm.SMLAL else -128


needs_qemu = pytest.mark.skipif(QEMU is None, reason="no qemu-aarch64: apt-get install qemu-user-static")


@needs_qemu
@pytest.mark.parametrize(("isa", "cpu"), CORES, ids=IDS)
@pytest.mark.parametrize(("m", "k", "n"), [(12, 96, 192), (128, 96, 96), (130, 384, 288)])
def test_random_codes_are_multiplied_exactly(tmp_path: Path, isa: Isa, cpu: str, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(m)
    x, w = (rng.integers(low, 128, shape).astype(np.int8) for low, shape in ((-128, (m, k)), (least(isa), (k, n))))
    assert np.array_equal(run_gemm(tmp_path, isa, cpu, x, w), x.astype(np.int32) @ w.astype(np.int32))


@needs_qemu
@pytest.mark.parametrize(("isa", "cpu"), CORES, ids=IDS)
def test_weights_of_four_bits_are_multiplied_exactly(tmp_path: Path, isa: Isa, cpu: str) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, (128, 96)).astype(np.int8), rng.integers(-8, 8, (96, 288)).astype(np.int8)
    got = run_gemm(tmp_path, isa.with_narrow_weights(), cpu, x, w)
    assert np.array_equal(got, x.astype(np.int32) @ w.astype(np.int32))


@needs_qemu
@pytest.mark.parametrize(("isa", "cpu"), CORES, ids=IDS)
def test_extremes_do_not_saturate(tmp_path: Path, isa: Isa, cpu: str) -> None:
    x, w = np.full((8, 1152), -128, np.int8), np.full((1152, 96), least(isa), np.int8)
    w[:, ::2] = 127
    assert np.array_equal(run_gemm(tmp_path, isa, cpu, x, w), x.astype(np.int32) @ w.astype(np.int32))


@pytest.mark.parametrize(
    ("isa", "cpu", "instruction"),
    [
        (arm.NEON, "cortex-a72", "sadalp"),
        (arm.SMLAL, "cortex-a72", "smlal2"),
        (arm.SDOT, "cortex-a76", "sdot"),
        (arm.SMMLA, "neoverse-n2", "smmla"),
    ],
)
def test_the_inner_loop_is_made_of_the_instruction(isa: Isa, cpu: str, instruction: str) -> None:
    tile = isa.rows * isa.vectors * isa.groups // (2 if isa.paired else 1)
    assert assembly(isa, cpu, isa.rows * 2, 64, isa.columns * 2).count(f"\t{instruction}\t") >= tile


def test_cores_get_the_widest_instruction_they_have() -> None:
    assert choose_isa(frozenset()) is generic.GENERIC
    assert choose_isa(frozenset({"neon"})) is arm.NEON
    assert choose_isa(frozenset({"neon", "dotprod"})) is arm.SDOT
    assert choose_isa(frozenset({"neon", "dotprod", "i8mm"})) is arm.SMMLA


@pytest.mark.parametrize(("m", "k", "n"), [(3, 64, 96), (4, 64, 40), (4, 24, 96)])
def test_shapes_that_do_not_come_in_pairs_are_refused(m: int, k: int, n: int) -> None:
    assert not arm.SMMLA.fits(m, k, n)
    with pytest.raises(BuildError, match="to fit smmla"):
        gemm("odd", m, k, n, arm.SMMLA)


@pytest.mark.parametrize(
    ("m", "k", "wide", "narrow"),
    [
        (8, 64, arm.SMMLA, arm.SDOT),
        (7, 64, arm.SDOT, arm.SDOT),
        (8, 24, arm.NEON, arm.NEON),
        (8, 15, generic.GENERIC, generic.GENERIC),
    ],
)
def test_shapes_that_do_not_fit_get_the_next_narrower_instruction(m: int, k: int, wide: Isa, narrow: Isa) -> None:
    builder = relax.BlockBuilder()
    x, w = (relax.Var(name, relax.TensorType(shape, "int8")) for name, shape in (("x", [m, k]), ("w", [k, 96])))
    with builder.function("main", [x, w]):
        with builder.dataflow():
            output = builder.emit_output(builder.emit(relax.op.matmul(x, w, out_dtype="int32")))
        builder.emit_func_output(output)
    for isa, chosen in ((arm.SMMLA, wide), (arm.SDOT, narrow)):
        product = as_product(builder.get()["main"], isa)
        assert product is not None and product.isa is chosen


def isa_for(w: Array) -> Isa:
    """What a product with the constant ``w`` gets on a core with plain NEON."""
    k, n = w.shape
    function = function_of(
        lambda emit, x, w: emit(R.matmul(x, w, out_dtype="int32")), ((8, k), "int8"), ((k, n), "int8")
    )
    (product,) = pack_weights(program_of(function, {1: w}), arm.NEON).products.values()
    return product.isa


@pytest.mark.parametrize(("code", "isa"), [(-127, arm.SMLAL), (-128, arm.NEON)])
def test_one_weight_of_128_below_zero_takes_the_kernel_that_is_exact_for_it(code: int, isa: Isa) -> None:
    w = np.ones((64, 96), np.int8)
    w[17, 5] = code
    assert isa_for(w) is isa


def test_weights_of_four_bits_are_above_it() -> None:
    assert isa_for(np.full((64, 96), -8, np.int8)) == arm.SMLAL.with_narrow_weights()


def test_shapes_that_it_does_not_fit_are_left_to_the_kernel_for_all_codes() -> None:
    assert isa_for(np.full((64, 94), 99, np.int8)) is isa_for(np.full((48, 96), 99, np.int8)) is arm.NEON


@needs_qemu
def test_a_core_with_dotprod_runs_the_narrower_kernel(tmp_path: Path) -> None:
    rng = np.random.default_rng(24)
    x, w = (rng.integers(-128, 128, shape).astype(np.int8) for shape in ((8, 24), (24, 96)))
    assert np.array_equal(run_gemm(tmp_path, arm.NEON, "cortex-a76", x, w), x.astype(np.int32) @ w.astype(np.int32))
    assert "\tsadalp\t" in assembly(arm.NEON, "cortex-a76", 8, 24, 96)
