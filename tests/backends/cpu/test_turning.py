"""Squares of a matrix, turned by shuffles."""

from __future__ import annotations

import numpy as np
import pytest
from support.execution import call_kernel, compile_functions
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tvm_flow.backends.cpu.statements import argument, flat, i64, store
from tvm_flow.backends.cpu.turning import turned
from tvm_flow.graph.types import PrimFunc


def turning(side: int) -> PrimFunc:
    with IRBuilder() as builder, T.prim_func():
        T.func_name("a")
        given, made = (argument(name, (side, side), "float32") for name in ("x", "y"))
        x, y = flat(given), flat(made)
        places = [tirx.Ramp(i64(row * side), i64(1), side) for row in range(side)]
        for place, column in zip(places, turned([T.bind(x[place]) for place in places]), strict=True):
            store(y, place, column)
    return builder.get().with_attr("global_symbol", "a")


@pytest.mark.parametrize("side", [4, 8, 16])
def test_rows_become_columns(side: int) -> None:
    square = np.arange(side * side, dtype=np.float32).reshape(side, side)
    got = call_kernel(compile_functions({"a": turning(side)}), "a", [square], square.shape, "float32")
    assert np.array_equal(got, square.T)
