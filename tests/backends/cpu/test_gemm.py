"""Integer products of every instruction set that this machine has, against exact integers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tvm
from support.execution import HOST, call_kernel

from tvm_flow.backends.cpu import choose_isa, generic, x86
from tvm_flow.backends.cpu.gemm import PARALLEL_MACS, gemm
from tvm_flow.backends.cpu.isa import Isa, register_isa, registered_isas
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import RULES

Array = np.ndarray[Any, Any]
RUNNABLE = [isa for isa in registered_isas() if isa.features <= HOST.features]
IDS = [isa.name for isa in RUNNABLE]
SHAPES = [(1, 16, 32), (1, 2, 64), (7, 24, 32), (8, 64, 96), (13, 6, 128), (5, 10, 20), (3, 8, 1), (16, 30, 33)]
"""M, K, N: one row, prime numbers of rows, columns that no vector divides."""


def operands(kind: str, m: int, k: int, n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(m * 1000 + k * 10 + n)
    if kind == "random":
        return rng.integers(-128, 128, (m, k)).astype(np.int8), rng.integers(-128, 128, (k, n)).astype(np.int8)
    x, w = {"lowest": (-128, -128), "opposite": (-128, 127), "highest": (127, 127)}[kind]
    return np.full((m, k), x, np.int8), np.full((k, n), w, np.int8)


def assert_exact(module: Any, name: str, isa: Isa, x: Array, w: Array) -> None:
    packed = RULES["pack_columns"](w, isa.columns, isa.depth)
    got = call_kernel(module, name, [x, packed], (len(x), w.shape[1]), "int32")
    np.testing.assert_array_equal(got, x.astype(np.int64) @ w.astype(np.int64))


@pytest.fixture(scope="module", params=RUNNABLE, ids=IDS)
def compiled(request: pytest.FixtureRequest) -> tuple[Isa, Any]:
    """Every shape for one instruction set, in one module."""
    isa: Isa = request.param
    functions = {f"g_{m}_{k}_{n}": gemm(f"g_{m}_{k}_{n}", m, k, n, isa) for m, k, n in SHAPES if isa.fits(m, k, n)}
    return isa, tvm.tirx.build(tvm.IRModule(functions), target=HOST.tvm())


@pytest.mark.parametrize("kind", ["random", "lowest", "opposite", "highest"])
def test_exact_on_every_shape(compiled: tuple[Isa, Any], kind: str) -> None:
    isa, module = compiled
    for m, k, n in (shape for shape in SHAPES if isa.fits(*shape)):
        assert_exact(module, f"g_{m}_{k}_{n}", isa, *operands(kind, m, k, n))


@pytest.mark.parametrize("isa", RUNNABLE, ids=IDS)
def test_weights_of_four_bits_are_exact_in_half_the_bytes(isa: Isa) -> None:
    narrow, sizes = isa.with_narrow_weights(), [(1, 16, 96), (7, 64, 96), (72, 128, 192)]
    functions = {f"g{m}": gemm(f"g{m}", m, k, n, narrow) for m, k, n in sizes}
    module = tvm.tirx.build(tvm.IRModule(functions), target=HOST.tvm())
    for m, k, n in sizes:
        x, w = operands("random", m, k, n)
        for codes in (w >> 4, np.full_like(w, -8), np.full_like(w, 7)):
            packed = narrow.layout.pack(codes)
            assert 2 * packed.nbytes == codes.nbytes
            np.testing.assert_array_equal(narrow.layout.unpack(packed, (k, n)), codes)
            got = call_kernel(module, f"g{m}", [x, packed], (m, n), "int32")
            np.testing.assert_array_equal(got, x.astype(np.int64) @ codes.astype(np.int64))


def test_weights_of_four_bits_are_unpacked_before_the_products() -> None:
    """Once for a block of columns; the inner loop is that of codes in bytes."""
    narrow = x86.AVX512VNNI.with_narrow_weights()
    module = tvm.tirx.build(tvm.IRModule({"g": gemm("g", 64, 64, 96, narrow)}), target=client_target("icelake-server"))
    assert module.inspect_source("s").count("vpdpbusd") >= narrow.rows * narrow.vectors
    with pytest.raises(BuildError, match="to fit avx2-w4"):
        gemm("odd", 8, 64, 40, x86.AVX2.with_narrow_weights())


@pytest.mark.parametrize("isa", RUNNABLE, ids=IDS)
def test_deep_products_of_extremes(isa: Isa) -> None:
    """Sums near the end of int32: nothing saturates in between, as vpmaddubsw would."""
    k = 131070 // isa.depth * isa.depth
    module = tvm.tirx.build(tvm.IRModule({"deep": gemm("deep", 1, k, isa.columns, isa)}), target=HOST.tvm())
    assert_exact(module, "deep", isa, *operands("lowest", 1, k, isa.columns))
    assert_exact(module, "deep", isa, *operands("opposite", 1, k, isa.columns))


@pytest.mark.parametrize("isa", RUNNABLE, ids=IDS)
def test_parallel_products(isa: Isa) -> None:
    m, k, n = 72, 128, 96 * 2
    assert m * k * n >= PARALLEL_MACS
    function = gemm("large", m, k, n, isa)
    assert "T.parallel" in str(function)
    module = tvm.tirx.build(tvm.IRModule({"large": function}), target=HOST.tvm())
    for kind in ("random", "opposite"):
        assert_exact(module, "large", isa, *operands(kind, m, k, n))


@pytest.mark.parametrize("isa", RUNNABLE, ids=IDS)
def test_small_products_stay_on_one_thread(isa: Isa) -> None:
    assert "T.parallel" not in str(gemm("small", 8, 64, 96, isa))


@pytest.mark.parametrize("isa", [i for i in RUNNABLE if i.register], ids=lambda i: i.name)
def test_tiles_use_the_instruction(isa: Isa) -> None:
    """Without it the product is right too, and several times slower."""
    assert "call_llvm_pure_intrin" in str(gemm("tile", 8, 64, isa.columns * 2, isa))


def test_rows_of_pairs_are_widened_before_the_tiles_that_read_them() -> None:
    """A tile then broadcasts pairs as it loads them; widened in each, they took a third of the vector units' time."""
    function = gemm("wide", 64, 64, 96, x86.AVX2)
    module = tvm.tirx.build(tvm.IRModule({"wide": function}), target=client_target("haswell"))
    assembly = module.inspect_source("s")
    assert assembly.count("vpmaddwd") >= x86.AVX2.rows * x86.AVX2.vectors
    assert "vpbroadcastd" in assembly and "vpbroadcastw" not in assembly


@pytest.mark.parametrize("isa", [x86.AVX2, x86.SSE2], ids=lambda i: i.name)
def test_few_rows_are_cut_along_the_columns_so_that_all_cores_have_work(isa: Isa) -> None:
    """120 rows of a caption make few groups of tiles."""
    assert re.search(r"fused in range\(T\.int64\(16\)\)", str(gemm("few", 8, 64, 48 * isa.columns, isa)))


@pytest.mark.parametrize("isa", [i for i in RUNNABLE if i.depth > 1], ids=lambda i: i.name)
def test_depth_that_does_not_divide_is_refused(isa: Isa) -> None:
    """The last products would be left out."""
    with pytest.raises(BuildError, match=f"K = 15.*multiple of {isa.depth}"):
        gemm("odd", 4, 15, isa.columns, isa)


@pytest.mark.parametrize(("k", "n"), [(6, 96), (64, 32)])
def test_vnni_leaves_other_shapes_to_its_fallback(k: int, n: int) -> None:
    """Whole steps of four codes and whole blocks of columns, or vpmaddwd."""
    assert not x86.AVX512VNNI.fits(8, k, n) and x86.AVX512VNNI.fallback is x86.AVX512BW
    assert x86.AVX512BW.fits(8, k, n)
    with pytest.raises(BuildError, match="to fit avx512vnni"):
        gemm("odd", 8, k, n, x86.AVX512VNNI)


def test_packed_shape_is_what_the_kernel_reads() -> None:
    for isa in registered_isas():
        size = (4, 8 * isa.depth, 2 * isa.columns)
        shape = ", ".join(f"T.int64({extent})" for extent in Product(*size, isa).packed_shape())
        assert f'W: T.Buffer(({shape}), "int8")' in str(gemm("g", *size, isa))


def client_target(cpu: str) -> tvm.target.Target:
    return tvm.target.Target({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": cpu})


def test_avx_vnni_is_one_vex_instruction() -> None:
    """On a core that has no AVX-512 to encode it in."""
    module = tvm.tirx.build(tvm.IRModule({"g": gemm("g", 12, 64, 32, x86.AVXVNNI)}), target=client_target("alderlake"))
    assembly = module.inspect_source("s")
    assert assembly.count("{vex}") >= x86.AVXVNNI.rows * x86.AVXVNNI.vectors
    assert "vpmaddubsw" not in assembly and "zmm" not in assembly


@pytest.mark.skipif("avx512vnni" not in HOST.features, reason="this CPU has no vpdpbusd of any encoding")
@pytest.mark.parametrize("kind", ["random", "lowest", "opposite", "highest"])
def test_avx_vnni_is_exact_in_the_other_encoding(kind: str) -> None:
    """AVX-512 VL has the same 256-bit instruction, which this machine may have where it lacks AVX-VNNI."""
    functions = {f"g{m}": gemm(f"g{m}", m, 64, 96, x86.AVXVNNI) for m in (1, 7, 12)}
    module = tvm.tirx.build(tvm.IRModule(functions), target=HOST.tvm())
    for m in (1, 7, 12):
        assert_exact(module, f"g{m}", x86.AVXVNNI, *operands(kind, m, 64, 96))


# choosing


def test_generic_is_always_there() -> None:
    assert choose_isa(frozenset()) is generic.GENERIC
    assert choose_isa(frozenset({"something new"})) is generic.GENERIC


@pytest.mark.parametrize(
    ("features", "isa"),
    [
        ({"sse2"}, x86.SSE2),
        ({"sse2", "avx", "avx2"}, x86.AVX2),
        ({"sse2", "avx2", "avx512f"}, x86.AVX2),
        ({"sse2", "avx2", "avx512bw"}, x86.AVX2),
        ({"sse2", "avx2", "avx512bw", "avx512vl"}, x86.AVX512BW),
        ({"sse2", "avx2", "avx512bw", "avx512vl", "avx512vnni"}, x86.AVX512VNNI),
        ({"sse2", "avx2", "avx512bw", "avx512vl", "avx512vnni", "avxvnni"}, x86.AVX512VNNI),
        ({"sse2", "avx2", "avxvnni"}, x86.AVXVNNI),
    ],
)
def test_widest_usable_instruction_set_is_chosen(features: set[str], isa: Isa) -> None:
    assert choose_isa(frozenset(features)) is isa


def test_chosen_needs_no_more_than_the_target_has() -> None:
    assert choose_isa(HOST.features).features <= HOST.features


def test_no_instruction_set_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvm_flow.backends.cpu.isa._REGISTRY", {})
    with pytest.raises(BuildError, match="expected at least one known instruction set"):
        choose_isa(frozenset({"avx2"}))


def test_registering_twice_is_refused_unless_it_is_the_same() -> None:
    assert register_isa(generic.GENERIC) is generic.GENERIC
    with pytest.raises(BuildError, match=r"'generic'.*already"):
        register_isa(Isa("generic", frozenset(), lanes=4, depth=1, rows=1, vectors=1))


def test_columns_are_lanes_times_vectors() -> None:
    columns = {isa.name: isa.columns for isa in registered_isas()}
    assert [columns[name] for name in ("generic", "sse2", "avx2", "avx512bw")] == [16, 8, 16, 32]
