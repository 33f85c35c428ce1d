"""What kernels in float load again, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.attentions import attention
from support.execution import HOST
from support.relax_kernels import function_of, program_of
from tvm.relax import op as R

from tvm_flow.backends.cpu.attention_tiles import layout_of
from tvm_flow.backends.cpu.choices import AttentionChoice, Choice, FloatChoice, RowsChoice
from tvm_flow.backends.cpu.float_product import noted_float_product
from tvm_flow.backends.cpu.registers import Registers
from tvm_flow.backends.cpu.softmax import as_attention
from tvm_flow.backends.cpu.spaces import default_choice
from tvm_flow.backends.packed import PackedProgram
from tvm_flow.backends.place import place
from tvm_flow.tune.float_lines import AttentionLoads, loads_of


def test_weights_of_a_float_product_are_read_once_for_a_group_that_they_fit_beside() -> None:
    packed = place(program_of(product(64, 32, 96), {1: np.zeros((32, 96), np.float32)}), HOST)
    floats = noted_float_product(packed, "k")
    assert floats is not None
    choice = FloatChoice(4, floats.vectors, 8, False)
    loads, rows, weights, blocks = loads_of(packed, "k", choice), 64 * 32 * 4, 32 * 96 * 4, 96 // floats.columns
    assert loads.missed(1 << 20) == weights + rows
    assert loads.missed(1 << 13) == 2 * weights + rows
    assert loads.missed(256) == 16 * weights + rows * blocks
    assert loads.tasks == 1 and loads_of(packed, "k", replace(choice, parallel=True)).tasks == 2 * blocks


def product(m: int, k: int, n: int) -> object:
    return function_of(lambda emit, x, w: emit(R.matmul(x, w)), ((m, k), "float32"), ((k, n), "float32"))


@pytest.mark.parametrize("blocks", [1, 4])
def test_keys_and_values_come_from_far_for_each_group_where_a_block_does_not_fit(blocks: int) -> None:
    found = as_attention(attention(8, 2, 64, 8, 1024, False))
    assert found is not None
    layout = layout_of(found, Registers(16, 8), AttentionChoice(4, 16, False, blocks))
    loads = AttentionLoads(1, found, layout)
    assert (layout.task, layout.group, layout.keys.padded, layout.channels.padded) == (64, 16, 1024 // blocks, 8)
    keys_and_values, sums, scores = 1024 * 16 * 4, 64 * 8 * 4, 16 * 1024 // blocks * 4
    assert loads.missed(1 << 20) == 16 * (keys_and_values + sums)
    assert loads.missed(scores + sums) == 16 * (keys_and_values * 4 + blocks * sums)
    assert loads.missed(1) == 16 * (keys_and_values * 4 + blocks * (sums + 4 * 3 * scores))


def test_rows_are_read_once_and_shared_by_threads() -> None:
    function = function_of(lambda emit, x: emit(R.multiply(x, x)), ((512, 96), "float32"))
    packed = place(program_of(function, {}), HOST)
    assert tasks(packed, RowsChoice(16, True, 4)) == 128
    assert tasks(packed, RowsChoice(16, False, 4)) == 1
    assert tasks(packed, default_choice(packed, "k")) == 512


def tasks(packed: PackedProgram, choice: Choice | None) -> int:
    loads = loads_of(packed, "k", choice)
    assert loads.missed(1) == 0
    return loads.tasks
