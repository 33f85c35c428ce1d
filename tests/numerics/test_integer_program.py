"""A recorded computation is, run again, the one that was recorded."""

from __future__ import annotations

import numpy as np
import pytest
from support.integer_blocks import BLOCKS, block_inputs, integer_block

from tvm_flow.numerics.integer_program import IntegerProgram, Recorder, program_from_text
from tvm_flow.numerics.tosa_operators import Array, NumpyOperators
from tvm_flow.quantize.integer_block import BlockWriter


def recorded_block(name: str) -> tuple[IntegerProgram, list[Array], Array]:
    """The program of a block, its inputs, and what the block makes of them."""
    block = integer_block(name)
    x, y, mask = block_inputs()
    plain = BlockWriter(NumpyOperators(), block)
    kv = plain.caption_codes(y)
    recorder = Recorder()
    given = [recorder.input(array.shape, str(array.dtype)) for array in (x, kv, mask)]
    program = recorder.program(BlockWriter(recorder, block).run(*given))
    return program, [x, kv, mask, *recorder.arrays], plain.run(x, kv, mask)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_recorded_block_gives_what_the_block_gives(name: str) -> None:
    program, inputs, expected = recorded_block(name)
    assert np.array_equal(program.run(NumpyOperators(), inputs), expected)
    assert program.result.shape == expected.shape and program.result.dtype == str(expected.dtype)


def test_shapes_and_types_are_those_of_the_values() -> None:
    program, inputs, _ = recorded_block("temporal_blocks.0")
    values = list(inputs)
    for instruction in program.instructions:
        values.append(instruction.run(NumpyOperators(), values))
        assert (values[-1].shape, str(values[-1].dtype)) == (instruction.result.shape, instruction.result.dtype)


def test_text_says_all_of_a_program() -> None:
    program, inputs, expected = recorded_block("blocks.0")
    text = program.to_text()
    again = program_from_text(text)
    assert again.to_text() == text and again.inputs == program.inputs
    assert np.array_equal(again.run(NumpyOperators(), inputs), expected)


def test_multiply_adds_are_those_of_products() -> None:
    recorder = Recorder()
    x, weight = recorder.input((1, 1, 5, 3), "int8"), recorder.input((7, 1, 1, 3), "int8")
    sums = recorder.conv1x1(x, weight, recorder.input((7,), "int32"))
    codes = recorder.reshape(recorder.cast(sums, "int8"), (1, 5, 7))
    scores = recorder.matmul(codes, recorder.transpose(codes, (0, 2, 1)))
    assert recorder.program(scores).macs == 5 * 7 * 3 + 5 * 5 * 7
