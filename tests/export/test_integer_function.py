"""A local function of an ONNX model says all of a program, in TOSA's words."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tvm_flow.errors import ExportError
from tvm_flow.export.integer_function import DOMAIN, function_of, program_of
from tvm_flow.export.writer import OPSET
from tvm_flow.numerics.integer_program import IntegerProgram, Recorder
from tvm_flow.numerics.integer_rows import Attended, attention, unit_rows


def program() -> IntegerProgram:
    """A norm, codes of it, and attention among them."""
    recorder = Recorder()
    x, mask = recorder.input((2, 5, 6), "int16"), recorder.input((1, 1, 5), "int32")
    eight = recorder.constant(np.full((1, 1, 1), 8, np.int32))
    wide = recorder.cast(unit_rows(recorder, x, False), "int32")
    rows = recorder.shift("arithmetic_right_shift", wide, eight, True)
    codes = recorder.cast(rows, "int8")
    halves = [recorder.slice(codes, 2, start, start + 3) for start in (0, 3)]
    codes = recorder.concat(halves[::-1], 2)
    keys = recorder.transpose(codes, (0, 2, 1))
    return recorder.program(attention(recorder, Attended(codes, keys, codes, mask), 1e-3))


def test_it_is_read_back_and_its_nodes_are_tosas() -> None:
    made = program()
    function = function_of(made, "Block0", OPSET)
    assert program_of(function).to_text() == made.to_text()
    assert (function.domain, function.name, len(function.input)) == (DOMAIN, "Block0", len(made.inputs))
    kinds = {node.op_type for node in function.node}
    assert {"RESCALE", "TABLE", "CLZ", "ARITHMETIC_RIGHT_SHIFT", "REDUCE_MAX", "MATMUL", "CONCAT"} < kinds


def test_another_function_is_refused_by_name() -> None:
    function = function_of(program(), "Block0", OPSET)
    function.node[3].op_type = "SOFTMAX"
    with pytest.raises(
        ExportError, match=r"function tvm_flow::Block0: expected one of TOSA's .* got KeyError: 'SOFTMAX'"
    ):
        program_of(function)


def test_one_without_shapes_is_refused() -> None:
    function = function_of(program(), "Block0", OPSET)
    del function.value_info[:]
    with pytest.raises(ExportError, match="with all shapes noted, got KeyError"):
        program_of(function)


def test_tables_keep_their_bits() -> None:
    tables = [
        onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in function_of(program(), "Block0", OPSET).node
        if node.op_type == "Constant"
    ]
    kept = [each.array for each in program().instructions if each.array is not None]
    assert len(tables) == len(kept) and all(np.array_equal(a, b) for a, b in zip(tables, kept, strict=True))
