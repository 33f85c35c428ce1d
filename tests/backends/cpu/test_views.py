"""A view is where numpy would have each element, and is none where numpy would have to copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_flow.backends.cpu.views import View, whole

SHAPES = [(1,), (6,), (4, 6), (6, 4), (2, 3, 4), (24,), (3, 1, 8), (2, 2, 6), (1, 24, 1), (12, 2), (4, 3, 2, 1)]


def places(view: View) -> np.ndarray[Any, Any]:
    """Of every element, in the tensor that is seen."""
    found = np.full(view.shape, view.offset)
    for axis, (extent, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        found = found + (np.arange(extent) * stride).reshape([-1] + [1] * (len(view.shape) - axis - 1))
    return found


@given(st.sampled_from(SHAPES), st.data())
def test_moves_are_those_of_numpy(shape: tuple[int, ...], data: st.DataObject) -> None:
    array, view = np.arange(np.prod(shape)).reshape(shape), whole(shape)
    for move in data.draw(st.lists(st.sampled_from(["permute", "cut", "reshape", "spread"]), max_size=5)):
        if move == "permute":
            axes = data.draw(st.permutations(range(array.ndim)))
            array, view = array.transpose(axes), view.permuted(axes)
        elif move == "cut":
            axis = data.draw(st.integers(0, array.ndim - 1))
            start, step = data.draw(st.integers(0, array.shape[axis] - 1)), data.draw(st.integers(1, 2))
            array = np.moveaxis(np.moveaxis(array, axis, 0)[start::step], 0, axis)
            view = view.cut(axis, start, array.shape[axis], step)
        elif move == "spread":
            wide = (2, *(3 if extent == 1 else extent for extent in array.shape))
            array, view = np.broadcast_to(array, wide), view.spread(wide)
        else:
            other = data.draw(st.sampled_from([s for s in SHAPES if np.prod(s) == array.size] or [array.shape]))
            seen = view.reshaped(other)
            try:
                array = np.reshape(array, other, copy=False)
            except ValueError:
                assert seen is None
                return
            assert seen is not None
            view = seen
        assert np.array_equal(places(view), array)


@pytest.mark.parametrize("shape", [(6, 4), (24,)])
def test_a_transposed_matrix_has_no_other_rows(shape: tuple[int, ...]) -> None:
    assert whole((4, 6)).permuted((1, 0)).reshaped(shape) == (View((6, 4), (1, 6)) if shape == (6, 4) else None)
