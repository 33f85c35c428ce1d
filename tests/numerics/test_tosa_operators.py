"""What TOSA leaves to the device is an error on arrays; what it states is checked beside its reference model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tvm_flow.errors import QuantizeError
from tvm_flow.numerics.tosa_operators import NumpyOperators

OPS = NumpyOperators()
BIG, ONE = np.array([1 << 30], np.int32), np.array([1], np.int32)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: OPS.elementwise("add", BIG, BIG), r"int32: expected values below 2\^31, got 2147483648"),
        (lambda: OPS.multiply(BIG, BIG), "int32: expected"),
        (lambda: OPS.reduce("reduce_sum", np.stack([BIG, BIG]), 0), "int32: expected"),
        (lambda: OPS.shift("logical_left_shift", BIG, ONE), "int32: expected"),
        (lambda: OPS.shift("arithmetic_right_shift", BIG, 32 * ONE), "shift: expected 0 to 31, got 32"),
        (lambda: OPS.clz(-ONE), "clz: expected numbers of 0 or more, got -1"),
        (lambda: OPS.cast(BIG, "int16"), "cast: expected values of int16"),
    ],
)
def test_it_is_refused(run: Callable[[], Any], words: str) -> None:
    with pytest.raises(QuantizeError, match=words):
        run()
