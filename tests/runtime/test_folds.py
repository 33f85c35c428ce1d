"""Folds: random tables in C and, operation by operation in float32, in numpy."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import toy_bundle

from tvm_flow.toolchain.runtime_library import RUNTIME

Float32 = NDArray[np.float32]
COPY, SCALE, AFFINE, INTEGER, LESS, FLIP = range(6)
NONE = 2**64 - 1
WEIGHTS, STEP, VARIANT, BLOCK = 96, 40, 24, 128


class CFold(ctypes.Structure):
    """tvm_flow_fold."""

    _fields_: ClassVar = [
        *[("op", ctypes.c_uint32), ("count", ctypes.c_uint32)],
        *[(name, ctypes.c_uint64) for name in ("out", "a", "b", "c")],
    ]


@dataclass(frozen=True)
class Fold:
    """Offsets in floats, but of FLIP, whose b is bits; c may be None."""

    op: int
    count: int
    out: int
    a: int
    b: int
    c: int | None

    def in_c(self) -> CFold:
        c = NONE if self.c is None else 4 * self.c
        b = self.b if self.op == FLIP else 4 * self.b
        return CFold(self.op, self.count, 4 * self.out, self.a, b, c)

    def in_numpy(self, weights: Float32, step: Float32, variant: Float32, before: Float32) -> Float32:
        if self.op == FLIP:
            return (variant[self.a : self.a + self.count].view(np.uint32) ^ np.uint32(self.b)).view(np.float32)
        b = weights[self.b : self.b + self.count]
        if self.op == COPY:
            return variant[self.a : self.a + self.count]
        if self.op == LESS:
            return before - variant[self.a : self.a + self.count]
        if self.op == SCALE:
            return np.asarray(variant[self.a] * b)
        total = step[self.a : self.a + self.count] + b
        return total if self.c is None else total * weights[self.c : self.c + self.count]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """flow_fold behind plain pointers: optimised for this machine, where a contraction would show."""
    folder = tmp_path_factory.mktemp("folds")
    (folder / "fold.c").write_text("""
#include "plan.h"
void fold(const tvm_flow_fold *folds, uint32_t count, const uint8_t *weights, const float *step, const float *variant,
          uint8_t *block) {
  const tvm_flow_library_descriptor descriptor = {.num_folds = count, .folds = folds};
  flow_fold(&descriptor, weights, step, variant, block);
}
""")
    flags = ["-O3", "-march=native", "-shared", "-fPIC"]
    sources = [folder / "fold.c", RUNTIME / "src" / "folds.c"]
    return ctypes.CDLL(str(toy_bundle.compile_c(folder / "fold.so", sources, *flags)))


@st.composite
def folds(draw: st.DrawFn) -> Fold:
    op = draw(st.sampled_from([COPY, SCALE, AFFINE, LESS, FLIP]))
    count = draw(st.integers(0, 20))
    words = VARIANT - count
    start = {COPY: words, LESS: words, FLIP: words, SCALE: VARIANT - 1, AFFINE: STEP - count}[op]
    where = st.integers(0, 2**32 - 1 if op == FLIP else WEIGHTS - count)
    c = draw(st.none() | where)
    return Fold(op, count, draw(st.integers(0, BLOCK - count)), draw(st.integers(0, start)), draw(where), c)


def run(library: ctypes.CDLL, table: list[Fold], weights: Float32, step: Float32, variant: Float32) -> Float32:
    block = np.full(BLOCK, -1, np.float32)
    rows = (CFold * len(table))(*(fold.in_c() for fold in table))
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (weights, step, variant, block)]
    library.fold(rows, len(table), *pointers)
    return block


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=st.lists(folds(), max_size=8), seed=st.integers(0, 2**32 - 1))
def test_same_bits_as_numpy(library: ctypes.CDLL, table: list[Fold], seed: int) -> None:
    random = np.random.default_rng(seed)
    weights, step, variant = (
        (random.normal(size=size) * 10.0 ** random.integers(-6, 6, size)).astype(np.float32)
        for size in (WEIGHTS, STEP, VARIANT)
    )
    expected = np.full(BLOCK, -1, np.float32)
    for fold in table:
        where = slice(fold.out, fold.out + fold.count)
        expected[where] = fold.in_numpy(weights, step, variant, expected[where])
    got = run(library, table, weights, step, variant)
    np.testing.assert_array_equal(got.view(np.int32), expected.view(np.int32))


def test_folds_run_in_order(library: ctypes.CDLL) -> None:
    weights, step = np.zeros(WEIGHTS, np.float32), np.zeros(STEP, np.float32)
    variant = np.arange(VARIANT, dtype=np.float32)
    table = [Fold(COPY, 4, 0, 0, 0, None), Fold(COPY, 2, 1, 10, 0, None)]
    np.testing.assert_array_equal(run(library, table, weights, step, variant)[:5], [0, 10, 11, 3, -1])


def test_layout_of_a_fold(tmp_path: Path) -> None:
    source = tmp_path / "layout.c"
    checks = "\n".join(
        f'_Static_assert(offsetof(tvm_flow_fold, {name}) == {getattr(CFold, name).offset}, "{name}");'
        for name in ("op", "count", "out", "a", "b", "c")
    )
    source.write_text(f'#include <stddef.h>\n#include "tvm_flow_library.h"\n{checks}\nint main(void) {{ return 0; }}')
    toy_bundle.compile_c(tmp_path / "layout", [source])
    assert ctypes.sizeof(CFold) == 40
