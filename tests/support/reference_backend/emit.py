"""A kernel's Relax function as C: one loop nest per operator, in the order in which they are written.

Every value is a dense array of its own. Float operations are C's single ones, not contracted; a sum runs from the first
element to the last. Constants are written in hexadecimal, so that none is rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of

_TYPES = {"float32": "float", "int8": "signed char", "int32": "int", "uint8": "unsigned char"}
_PREAMBLE = """#include <math.h>
#include <stdlib.h>
#include <string.h>
typedef void (*function)(void *const *args);
"""


class CannotEmit(Exception):
    """An operator, or a form of it, that has no C here."""


@dataclass(frozen=True)
class Array:
    """A dense row-major array in the C variable ``name``; a scalar constant is its literal."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    def at(self, indices: Sequence[str]) -> str:
        """The element at ``indices`` of a result that this is broadcast to."""
        if self.name.startswith("("):
            return self.name
        own = list(indices)[len(indices) - len(self.shape) :]
        terms = [
            f"({index}) * {prod(self.shape[axis + 1 :])}" for axis, index in enumerate(own) if self.shape[axis] != 1
        ]
        return f"{self.name}[{' + '.join(terms) or '0'}]"


@dataclass
class _Writer:
    lines: list[str] = field(default_factory=list)
    buffers: list[str] = field(default_factory=list)

    def array(self, shape: tuple[int, ...], dtype: str) -> Array:
        out = Array(f"t{len(self.buffers)}", shape, dtype)
        self.buffers.append(out.name)
        self.lines.append(f"  {_TYPES[dtype]} *{out.name} = malloc({prod(shape)} * sizeof *{out.name});")
        return out

    def loops(self, out: Array, body: Callable[[list[str]], Sequence[str]]) -> Array:
        """``body`` of the indices of an element of ``out``."""
        indices = [f"i{axis}" for axis in range(len(out.shape))]
        opened = [f"for (long {i} = 0; {i} < {extent}; {i}++)" for i, extent in zip(indices, out.shape, strict=True)]
        self.lines.append(f"  {' '.join(opened)} {{ {' '.join(body(indices))} }}")
        return out

    def each(self, shape: tuple[int, ...], dtype: str, expression: Callable[[list[str]], str]) -> Array:
        """An array whose every element is an expression of its indices."""
        out = self.array(shape, dtype)
        return self.loops(out, lambda i: [f"{out.at(i)} = ({_TYPES[dtype]})({expression(i)});"])


def emit_kernel(name: str, function: Any) -> str:
    """C of ``void name(void *const *args)``, the last argument its output; raises CannotEmit naming an operator."""
    writer, env = _Writer(), {}
    for position, parameter in enumerate(function.params):
        dtype = dtype_of(parameter)
        if dtype not in _TYPES:
            raise CannotEmit(f"no C for tensors of {dtype}")
        env[parameter] = Array(f"p{position}", shape_of(parameter), dtype)
        writer.lines.append(f"  const {_TYPES[dtype]} *p{position} = args[{position}];")
    for var, value in bindings_of(function):
        env[var] = _value(writer, var, value, env)
    result = env[function.body.body]
    size = f"{prod(result.shape)} * sizeof *{result.name}"
    writer.lines.append(f"  memcpy(args[{len(function.params)}], {result.name}, {size});")
    writer.lines += [f"  free({buffer});" for buffer in writer.buffers]
    return f"{_PREAMBLE}static void {name}(void *const *args) {{\n" + "\n".join(writer.lines) + "\n}\n"


def _value(writer: _Writer, var: Any, value: Any, env: dict[Any, Array]) -> Array:
    if value in env:
        return env[value]
    name = op_name(value)
    if name not in _RULES:
        raise CannotEmit(f"no C for operator {name or value}")
    args = [_argument(arg, env) for arg in value.args]
    return _RULES[name](writer, value, args, (shape_of(var), dtype_of(var)))


def _argument(arg: Any, env: dict[Any, Array]) -> Any:
    if arg in env:
        return env[arg]
    if hasattr(arg, "fields"):
        return [_argument(each, env) for each in arg.fields]
    if hasattr(arg, "value") and hasattr(arg.value, "numpy"):
        array = arg.value.numpy()
        if array.size != 1:
            raise CannotEmit("no C for a constant array")
        number = array.reshape(-1)[0]
        text = float(number).hex() + "f" if array.dtype.kind == "f" else str(int(number))
        return Array(f"({text})", array.shape, str(array.dtype))
    return arg


Kind = tuple[tuple[int, ...], str]


def _binary(form: str) -> Callable[..., Array]:
    def rule(writer: _Writer, _call: Any, args: list[Array], kind: Kind) -> Array:
        return writer.each(*kind, lambda i: form.format(args[0].at(i), args[1].at(i)))

    return rule


def _unary(form: str) -> Callable[..., Array]:
    def rule(writer: _Writer, _call: Any, args: list[Array], kind: Kind) -> Array:
        return writer.each(*kind, lambda i: form.format(args[0].at(i)))

    return rule


def _clip(writer: _Writer, call: Any, args: list[Array], kind: Kind) -> Array:
    low, high = (float(bound.value) for bound in call.args[1:3])
    x = args[0]
    form = f"{{0}} < {low.hex()}f ? {low.hex()}f : {{0}} > {high.hex()}f ? {high.hex()}f : {{0}}"
    return writer.each(*kind, lambda i: form.format(x.at(i)))


def _matmul(writer: _Writer, _call: Any, args: list[Array], kind: Kind) -> Array:
    (a, b), (shape, dtype) = args, kind
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise CannotEmit("no C for a product with a vector")
    out, ctype = writer.array(shape, dtype), _TYPES[dtype]

    def body(i: list[str]) -> list[str]:
        *batch, row, column = i
        term = f"({ctype}){a.at([*batch, row, 'k'])} * ({ctype}){b.at([*batch, 'k', column])}"
        total = f"{ctype} s = 0; for (long k = 0; k < {a.shape[-1]}; k++) s += {term};"
        return [total, f"{out.at(i)} = s;"]

    return writer.loops(out, body)


def _reduction(start: str, step: str) -> Callable[..., Array]:
    def rule(writer: _Writer, call: Any, args: list[Array], kind: Kind) -> Array:
        (x,), (shape, dtype) = args, kind
        axes = range(len(x.shape)) if call.attrs.axis is None else [int(a) % len(x.shape) for a in call.attrs.axis]
        if list(axes) != [len(x.shape) - 1] or not call.attrs.keepdims:
            raise CannotEmit("no C for a reduction over other axes than the last, kept")
        out = writer.array(shape, dtype)

        def body(i: list[str]) -> list[str]:
            first, each = x.at([*i[:-1], "0"]), x.at([*i[:-1], "k"])
            loop = f"for (long k = 0; k < {x.shape[-1]}; k++) {{ {_TYPES[dtype]} v = {each}; s = {step}; }}"
            return [f"{_TYPES[dtype]} s = {start.format(first)};", loop, f"{out.at(i)} = s;"]

        return writer.loops(out, body)

    return rule


def _reshape(_writer: _Writer, _call: Any, args: list[Array], kind: Kind) -> Array:
    return Array(args[0].name, *kind)


def _permute(writer: _Writer, call: Any, args: list[Array], kind: Kind) -> Array:
    rank = len(kind[0])
    axes = list(reversed(range(rank))) if call.attrs.axes is None else [int(a) % rank for a in call.attrs.axes]
    return writer.each(*kind, lambda i: args[0].at([i[axes.index(axis)] for axis in range(rank)]))


def _concat(writer: _Writer, call: Any, args: list[list[Array]], kind: Kind) -> Array:
    axis, out, offset = int(call.attrs.axis) % len(kind[0]), writer.array(*kind), 0
    for part in args[0]:
        whole = Array(part.name, part.shape, part.dtype)

        def body(i: list[str], part: Array = part, offset: int = offset) -> list[str]:
            shifted = [f"{index} + {offset}" if a == axis else index for a, index in enumerate(i)]
            return [f"{out.at(shifted)} = {part.at(i)};"]

        writer.loops(whole, body)
        offset += part.shape[axis]
    return out


_RULES: dict[str, Callable[..., Array]] = {
    "relax.add": _binary("{0} + {1}"),
    "relax.subtract": _binary("{0} - {1}"),
    "relax.multiply": _binary("{0} * {1}"),
    "relax.divide": _binary("{0} / {1}"),
    "relax.maximum": _binary("{0} > {1} ? {0} : {1}"),
    "relax.sqrt": _unary("sqrtf({0})"),
    "relax.exp": _unary("expf({0})"),
    "relax.round": _unary("rintf({0})"),
    "relax.astype": _unary("{0}"),
    "relax.clip": _clip,
    "relax.matmul": _matmul,
    "relax.sum": _reduction("0", "s + v"),
    "relax.max": _reduction("{0}", "v > s ? v : s"),
    "relax.reshape": _reshape,
    "relax.squeeze": _reshape,
    "relax.expand_dims": _reshape,
    "relax.permute_dims": _permute,
    "relax.concat": _concat,
}
