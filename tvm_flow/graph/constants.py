"""Constants lifted out of a step graph, and how the derived ones come from the given ones.

Every initializer of an imported graph becomes a function parameter. Passes that need another constant (the product of
two scales, a transposed or packed weight) add a parameter whose value is a `Derived` expression over the given ones.
Two steps then differ in the values of their given constants only, so structurally equal modules share one library,
and the runtime can make a step's derived constants from the few numbers that really change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_flow.errors import ImportGraphError
from tvm_flow.numerics.quantize import quantize

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Given:
    """The initializer ``name`` of the ONNX graph."""

    name: str


@dataclass(frozen=True)
class Derived:
    """``rule`` (a key of `RULES`) applied to other constants, with integer options."""

    rule: str
    sources: tuple[Constant, ...]
    options: tuple[int, ...] = ()


Constant = Given | Derived


def evaluate(constant: Constant, arrays: Mapping[str, Array]) -> Array:
    """Value of ``constant`` where ``arrays`` holds the given ones.

    Raises ImportGraphError when a given constant is not in ``arrays``.
    """
    if isinstance(constant, Given):
        if constant.name not in arrays:
            raise ImportGraphError(
                f"constant {constant.name!r}: expected an initializer of that name, got none; re-export the graph"
            )
        return arrays[constant.name]
    sources = [evaluate(source, arrays) for source in constant.sources]
    return RULES[constant.rule](*sources, *constant.options)


def given_names(constant: Constant) -> frozenset[str]:
    """Names of all given constants that ``constant`` depends on."""
    if isinstance(constant, Given):
        return frozenset((constant.name,))
    return frozenset().union(*(given_names(source) for source in constant.sources))


def same_bits(a: Array, b: Array) -> bool:
    """True for equal shapes, types and bits; one array is equal to itself unread."""
    if a is b:
        return True
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def shape_and_dtype(constant: Constant, arrays: Mapping[str, Array]) -> tuple[tuple[int, ...], str]:
    """Those of `evaluate`'s result, from the shapes and types of ``arrays`` alone."""
    if isinstance(constant, Derived) and constant.rule == "zero_point_correction":  # would sum up a whole matrix
        return shape_and_dtype(constant.sources[1], arrays)[0][1:], "int32"
    if isinstance(constant, Derived) and constant.rule == "quantize":  # would quantize a whole matrix
        return shape_and_dtype(constant.sources[0], arrays)[0], "uint8" if constant.options[1] else "int8"
    if isinstance(constant, Derived) and (like := LIKE_FIRST.get(constant.rule)):  # may refuse blank values
        return shape_and_dtype(constant.sources[0], arrays)[0], like
    blanks = {
        name: np.broadcast_to(np.ones((), arrays[name].dtype), arrays[name].shape) for name in given_names(constant)
    }
    result = evaluate(constant, blanks)
    return result.shape, str(result.dtype)


def _product(scale: Array, vector: Array) -> Array:
    """float32 product, one rounding: the scale of an int32 accumulator."""
    return np.multiply(scale, vector, dtype=np.float32)


def _to_signed(q: Array) -> Array:
    """uint8 -> int8, 128 less; ONNX's u8 graphs are run as s8 ones, which is exact."""
    return (q.astype(np.int16) - 128).astype(np.int8)


def _transpose(w: Array) -> Array:
    return np.array(w.T, order="C")


def _zero_point_correction(zx: Array, w: Array, zw: Array) -> Array:
    """int32 [N]: what an accumulator of raw codes must add for an activation zero point.

    sum_k (x - zx)(w - zw) = sum_k x w - zw sum_k x  - zx sum_k w + K zx zw; the last two terms are this.
    """
    columns = w.astype(np.int64).sum(axis=0)
    terms = zx.astype(np.int64) * (w.shape[0] * zw.astype(np.int64) - columns)
    return np.broadcast_to(terms, (w.shape[1],)).astype(np.int32)


def _quantize(x: Array, scale: Array, zero_point: Array, axis: int, unsigned: int) -> Array:
    """Codes of a float tensor, as `tvm_flow.numerics.quantize` states it; vectors lie along ``axis``."""
    along = [-1 if i == axis else 1 for i in range(x.ndim)]
    scales, zeros = (part.reshape(along) if part.size > 1 else part.reshape(()) for part in (scale, zero_point))
    return quantize(x, scales, zeros, np.uint8 if unsigned else np.int8)


def _add_i32(a: Array, b: Array) -> Array:
    return (a.astype(np.int64) + b.astype(np.int64)).astype(np.int32)


RULES: dict[str, Callable[..., Array]] = {
    "product": _product,
    "to_signed": _to_signed,
    "transpose": _transpose,
    "zero_point_correction": _zero_point_correction,
    "add_i32": _add_i32,
    "quantize": _quantize,
}
"""How a derived constant is made; backends add the layouts of their weights."""


LIKE_FIRST: dict[str, str] = {}
"""Of rules that have the shape of their first source whatever its values are: the result's type."""


def register_rule(name: str, rule: Callable[..., Array], like_first: str = "") -> None:
    """Add a rule that turns arrays and integer options into an array; raises ImportGraphError when another has it.

    ``like_first`` is the result's type where its shape is the first array's and blank values could be refused.
    """
    if like_first:
        LIKE_FIRST[name] = like_first
    if RULES.setdefault(name, rule) is not rule:
        raise ImportGraphError(f"rule {name!r}: another is registered under this name; choose another name")
