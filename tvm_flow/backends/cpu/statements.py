"""Statements of TVM's IR builder as `tvm_flow.backends.cpu.streaming` writes them: int64 loops, flat buffers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from math import prod

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from tvm_flow.graph.types import Buffer, Expr


def i64(value: int) -> Expr:
    """A place or an extent."""
    return tirx.const(value, "int64")


def f32(value: float) -> Expr:
    """A number."""
    return tirx.const(value, "float32")


def loop(stop: int | Expr, start: int | Expr = 0) -> AbstractContextManager[Expr]:
    """From ``start`` up to ``stop``."""
    start, stop = (i64(end) if isinstance(end, int) else end for end in (start, stop))
    return T.serial(start, stop)  # type: ignore[no-any-return]


def vector(lanes: int) -> AbstractContextManager[Expr]:
    """The lanes of a vector."""
    return T.vectorized(i64(0), i64(lanes))  # type: ignore[no-any-return]


def i32(value: int) -> Expr:
    """A code, or a sum of their products."""
    return tirx.const(value, "int32")


def allocated(elements: int, dtype: str = "float32") -> Buffer:
    """Small ones in registers, or on the stack."""
    return T.alloc_buffer((i64(elements),), dtype, align=64)


def store(buffer: Buffer, place: Expr, value: Expr) -> None:
    """``value`` at ``place`` of a ``buffer`` of one dimension."""
    T.buffer_store(buffer, value, [place])


def argument(name: str, shape: tuple[int, ...], dtype: str) -> Buffer:
    """The function's next parameter."""
    return T.arg(name, T.buffer([i64(extent) for extent in shape], dtype))


def flat(given: Buffer) -> Buffer:
    """The same memory as one dimension."""
    elements = prod(int(extent) for extent in given.shape)
    return T.decl_buffer((i64(elements),), given.dtype, data=given.data)


def indices(number: Expr, shape: tuple[int, ...]) -> tuple[Expr, ...]:
    """Of element ``number`` of a tensor of ``shape``."""
    found: list[Expr] = []
    for extent in reversed(shape):
        found.append(T.bind(tirx.floormod(number, i64(extent))))
        number = tirx.floordiv(number, i64(extent))
    return tuple(reversed(found))
