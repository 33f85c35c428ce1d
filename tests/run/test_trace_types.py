"""Views of kernel arguments become numpy arrays of the right type, over the runtime's memory."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_flow.errors import RuntimeFailure
from tvm_flow.run.native import CKernelCall, CView
from tvm_flow.run.trace import kernel_call

CODES = {"i": 0, "u": 1, "f": 2}
TYPES = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]


def seen(*arrays: NDArray[Any]) -> CKernelCall:
    views = (CView * len(arrays))()
    for view, array in zip(views, arrays, strict=True):
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        view.data, view.shape, view.ndim = array.ctypes.data, shape, array.ndim
        view.dtype_code, view.dtype_bits = CODES[array.dtype.kind], 8 * array.dtype.itemsize
    return CKernelCall(3, 1, 17, len(arrays), b"fused_matmul", views, b"cpu")


@pytest.mark.parametrize("name", TYPES)
def test_types(name: str) -> None:
    array = np.arange(24).astype(name).reshape(2, 3, 4)
    call = kernel_call(seen(array))
    assert (call.step, call.branch, call.call, call.kernel) == (3, 1, 17, "fused_matmul")
    assert call.args[0].dtype == array.dtype
    np.testing.assert_array_equal(call.args[0], array)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 1, 1, 1), (2, 1, 3), (1, 2, 1, 2, 1, 2, 1, 2)])
def test_shapes(shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape)), dtype=np.float32).reshape(shape)
    (got,) = kernel_call(seen(array)).args
    assert got.shape == shape
    np.testing.assert_array_equal(got, array)


def test_no_copy_and_read_only() -> None:
    array = np.zeros(4, np.int32)
    (got,) = kernel_call(seen(array)).args
    array[2] = 5
    assert got[2] == 5
    with pytest.raises(ValueError, match="read-only"):
        got[0] = 1


def test_many_arguments_keep_their_order() -> None:
    arrays = [np.full(i + 1, i, np.uint8) for i in range(9)]
    for expected, got in zip(arrays, kernel_call(seen(*arrays)).args, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_type_that_numpy_lacks() -> None:
    call = seen(np.zeros(2, np.float16))
    call.args[0].dtype_bits = 24
    with pytest.raises(RuntimeFailure, match="trace: expected a type that numpy has, got f3"):
        kernel_call(call)
