"""How elements of a tensor lie for whoever reads them as something else: cut, in another order, in other dimensions.

    element i of a view of a tensor x     x.flat[offset + sum(i_n strides_n)]

This is numpy's own arithmetic of views, for tensors that are not there yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeVar

Index = TypeVar("Index")


@dataclass(frozen=True)
class View:
    """See the module; ``strides`` are in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    def permuted(self, axes: Sequence[int]) -> View:
        """With dimension ``axes[n]`` at place n."""
        return View(tuple(self.shape[a] for a in axes), tuple(self.strides[a] for a in axes), self.offset)

    def cut(self, axis: int, start: int, extent: int, step: int) -> View:
        """``extent`` places along ``axis`` from ``start`` on, ``step`` apart."""
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = extent, self.strides[axis] * step
        return View(tuple(shape), tuple(strides), self.offset + start * self.strides[axis])

    def spread(self, shape: Sequence[int]) -> View:
        """Broadcast to ``shape``, which it fits."""
        lead = len(shape) - len(self.shape)
        own = zip(self.shape, self.strides, strict=True)
        strides = [0] * lead + [0 if extent == 1 else stride for extent, stride in own]
        return View(tuple(shape), tuple(strides), self.offset)

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """The same elements in dimensions of ``shape``; None where no strides give that."""
        old = [(extent, stride) for extent, stride in zip(self.shape, self.strides, strict=True) if extent != 1]
        strides: list[int] = []
        for extent in reversed(shape):
            while extent > 1 and len(old) > 1 and old[-1][0] == 1:
                old.pop()
            while extent > 1 and old[-1][0] % extent:  # what comes before goes on where this dimension ends
                (inner, stride), (outer, far) = old.pop(), old.pop()
                if far != inner * stride:
                    return None
                old.append((outer * inner, stride))
                if len(old) == 1 and old[0][0] % extent:
                    return None
            if extent == 1:
                strides.append(0)
                continue
            inner, stride = old.pop()
            strides.append(stride)
            old.append((inner // extent, stride * extent))
        return View(tuple(shape), tuple(reversed(strides)), self.offset)


def whole(shape: Sequence[int]) -> View:
    """A tensor of ``shape`` as it lies."""
    return View(tuple(shape), tuple(prod(shape[axis + 1 :]) for axis in range(len(shape))))
