"""The program that shows the accumulators of fused products, and what becomes of its failures."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_flow.backends.cpu import arm, choose_isa, generic
from tvm_flow.backends.cpu.isa import Isa
from tvm_flow.backends.cpu.packing import Product
from tvm_flow.check.emulator import find_emulator
from tvm_flow.check.sums import Sums, SumsProgram, link_sums, without_epilogue
from tvm_flow.errors import BuildError
from tvm_flow.graph.constants import RULES, Array
from tvm_flow.target.spec import TargetSpec, load_target

SIZES = [(4, 32, 96), (6, 64, 48), (4, 32, 96)]


def products(isa: Isa) -> list[Product]:
    return [Product(m, k, n, isa, epilogue=True) for m, k, n in SIZES]


def operands(product: Product) -> tuple[Array, Array]:
    rng = np.random.default_rng(product.m)
    x = rng.integers(-128, 128, (product.m, product.k)).astype(np.int8)
    return x, rng.integers(-128, 128, (product.k, product.n)).astype(np.int8)


def assert_exact(sums: Sums, product: Product) -> None:
    x, w = operands(product)
    got = sums.accumulate(product, x, RULES["pack_columns"](w, product.isa.columns, product.isa.depth))
    assert np.array_equal(got, x.astype(np.int64) @ w.astype(np.int64))


@pytest.fixture(scope="module")
def host() -> TargetSpec:
    return load_target("host")


@pytest.fixture(scope="module")
def program(host: TargetSpec, tmp_path_factory: pytest.TempPathFactory) -> SumsProgram:
    made = link_sums(products(choose_isa(host.features)), host, tmp_path_factory.mktemp("sums"))
    assert made is not None
    return made


def test_sums_are_exact_and_equal_products_shared(program: SumsProgram, host: TargetSpec) -> None:
    assert len(program.products) == 2 and not any(product.epilogue for product in program.products)
    with program.start() as sums:
        for product in products(choose_isa(host.features)) * 2:
            assert_exact(sums, product)
    assert sums.process.poll() is not None, "it does not outlive its use"


@pytest.mark.skipif(shutil.which("qemu-aarch64-static") is None, reason="no qemu: apt-get install qemu-user-static")
def test_under_an_emulator(tmp_path: Path) -> None:
    target = load_target("raspberry-pi-5")
    made = link_sums(products(arm.SDOT), target, tmp_path, find_emulator(target).command)
    assert made is not None
    with made.start() as sums:
        assert_exact(sums, products(arm.SDOT)[0])


def test_products_without_an_epilogue_need_no_program(host: TargetSpec, tmp_path: Path) -> None:
    assert link_sums(map(without_epilogue, products(generic.GENERIC)), host, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_ends_early_is_an_error_with_its_words(program: SumsProgram) -> None:
    x, w = operands(program.products[0])
    isa = program.products[0].isa
    broken = replace(program, command=("sh", "-c", "echo it broke >&2; exit 3"))
    with broken.start() as sums, pytest.raises(BuildError, match=r"expected 1536 bytes of sums .*it broke"):
        sums.accumulate(program.products[0], x, RULES["pack_columns"](w, isa.columns, isa.depth))


def test_what_does_not_link_is_an_error_with_the_compilers_words(
    host: TargetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvm_flow.check.sums._table", lambda *_: "no C at all")
    with pytest.raises(BuildError, match=r"zig cc .*sums_table\.c"):
        link_sums(products(generic.GENERIC), host, tmp_path)
