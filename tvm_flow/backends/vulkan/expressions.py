"""TIR expressions as GLSL.

Each float operation is a statement of its own that assigns to a ``precise`` variable, so that it is rounded and nothing
is contracted; a value that an expression has several times, as inlining leaves it, is computed once. Integers narrower
than 32 bits are wrapped to their type after each operation. Indices stay expressions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from tvm import tirx
from tvm.sym import Analyzer

from tvm_flow.backends.vulkan.places import KINDS, Place, bits_of
from tvm_flow.graph.types import Expr, Var

LONG = 60
"""Characters of an integer expression that gets a name."""


class CannotPrint(Exception):
    """A TIR construct that has no GLSL here."""


@dataclass
class Writer:
    """A shader as far as it is written: lines, the helper functions that they call, names that are taken."""

    lines: list[str] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    known: dict[str, str] = field(default_factory=dict)
    """Variables by what they were assigned, for the statement that is being written."""
    depth: int = 1
    count: int = 0

    def line(self, text: str) -> None:
        """One more, indented."""
        self.lines.append("  " * self.depth + text)

    def fresh(self, stem: str) -> str:
        """A name that nothing else has."""
        self.count += 1
        return f"{stem}{self.count}"

    def named(self, kind: str, text: str) -> str:
        """A variable of ``kind`` with the value ``text``, the one that is there if there is one."""
        if text not in self.known:
            name = self.fresh(kind[0])
            self.line(f"{'precise ' if kind == 'float' else ''}{kind} {name} = {text};")
            self.known[text] = name
        return self.known[text]

    @contextmanager
    def block(self, opening: str, closing: str = "}") -> Iterator[None]:
        """Lines between braces; what is named there is unknown after."""
        self.line(opening)
        self.depth += 1
        outer, self.known = self.known, dict(self.known)
        yield
        self.known = outer
        self.depth -= 1
        if closing:
            self.line(closing)


@dataclass(frozen=True)
class Expressions:
    """Prints expressions over ``places``, by buffer, and ``names`` of variables; both grow as statements do."""

    writer: Writer
    places: dict[Var, Place] = field(default_factory=dict)
    names: dict[Var, str] = field(default_factory=dict)
    analyzer: Analyzer = field(default_factory=Analyzer)

    def value(self, expr: Expr) -> str:
        """A name, a literal or an expression in parentheses; raises CannotPrint naming the construct."""
        kind = type(expr).__name__
        if kind not in _RULES:
            raise CannotPrint(f"{kind} of type {expr.ty}")
        return _RULES[kind](self, expr)

    def place(self, buffer: Expr) -> Place:
        """Where ``buffer`` is; raises CannotPrint for one that is seen under two types."""
        if buffer not in self.places:
            raise CannotPrint(f"buffer {buffer.name} of scope {buffer.scope()}")
        place = self.places[buffer]
        if place.dtype != str(buffer.dtype):
            raise CannotPrint(f"buffer {buffer.name} of {place.dtype} taken for {buffer.dtype}")
        return place

    def index(self, buffer: Expr, indices: list[Expr]) -> str:
        """Of the element at ``indices``, rows one after the other."""
        flat = tirx.const(0, "int32")
        for extent, index in zip(buffer.shape, indices, strict=True):
            flat = flat * int(extent) + index
        return self.value(self.analyzer.simplify(flat))

    def result(self, dtype: str, text: str) -> str:
        """``text``, an operation on values of ``dtype``, as a value of it.

        Of 64 bits are indices alone, which fit in 32: no argument has elements of 64 bits, or 2^31 of them.
        """
        dtype = "int32" if dtype == "int64" else dtype
        if dtype == "float32":
            return self.writer.named("float", text)
        if dtype not in KINDS:
            raise CannotPrint(f"arithmetic on {dtype}")
        whole = wrapped(dtype, text)
        kind = KINDS[dtype]
        return self.writer.named(kind, whole) if len(whole) > LONG else f"({whole})"

    def natural(self, expr: Expr) -> bool:
        """True when ``expr`` is proven not to be negative."""
        return bool(self.analyzer.can_prove(expr >= 0))


def wrapped(dtype: str, text: str) -> str:
    """The int expression ``text`` wrapped to ``dtype``."""
    if not dtype.startswith(("int", "uint")) or bits_of(dtype) == 32:
        return text
    bits = bits_of(dtype)
    return f"({text}) & {(1 << bits) - 1}" if dtype.startswith("u") else f"bitfieldExtract({text}, 0, {bits})"


def literal(dtype: str, value: float) -> str:
    """The constant ``value``."""
    if dtype == "float32":
        single = np.float32(value)
        if not np.isfinite(single):
            return f"uintBitsToFloat({single.view(np.uint32)}u)"
        text = repr(float(single))
        return f"({text})" if text.startswith("-") else text
    if dtype == "bool":
        return "true" if value else "false"
    if dtype == "uint32":
        return f"{int(value)}u"
    if not -(2**31) <= value < 2**31:
        raise CannotPrint(f"constant {value} of {dtype}")
    return f"int({int(value) & 0xFFFFFFFF}u)" if value < 0 else str(int(value))


def _literal(_: Expressions, expr: Expr) -> str:
    return literal(str(expr.ty.dtype), expr.value)


def _variable(to: Expressions, expr: Expr) -> str:
    if expr not in to.names:
        raise CannotPrint(f"variable {expr.name} that nothing binds")
    return to.names[expr]


def _binary(sign: str) -> Callable[[Expressions, Expr], str]:
    def rule(to: Expressions, expr: Expr) -> str:
        return to.result(str(expr.ty.dtype), f"{to.value(expr.a)} {sign} {to.value(expr.b)}")

    return rule


def _compare(sign: str) -> Callable[[Expressions, Expr], str]:
    return lambda to, expr: f"({to.value(expr.a)} {sign} {to.value(expr.b)})"


def _divide(to: Expressions, expr: Expr) -> str:
    dtype, a, b = str(expr.ty.dtype), to.value(expr.a), to.value(expr.b)
    if dtype != "float32":
        return to.result(dtype, f"{a} / {b}")
    to.writer.called.add("divide")
    return to.result(dtype, f"divide({a}, {b})")


def _remainder(to: Expressions, expr: Expr) -> str:
    """C's: GLSL's is undefined for negative operands."""
    a, b = to.value(expr.a), to.value(expr.b)
    return to.result(str(expr.ty.dtype), f"{a} - {a} / {b} * {b}")


def _floor(sign: str, function: str) -> Callable[[Expressions, Expr], str]:
    def rule(to: Expressions, expr: Expr) -> str:
        dtype, a, b = str(expr.ty.dtype), to.value(expr.a), to.value(expr.b)
        if to.natural(expr.a) and to.natural(expr.b):
            return to.result(dtype, f"{a} {sign} {b}")
        to.writer.called.add(function)
        return to.result(dtype, f"{function}({a}, {b})")

    return rule


def _extreme(sign: str) -> Callable[[Expressions, Expr], str]:
    """TVM's: the second of two that do not compare."""

    def rule(to: Expressions, expr: Expr) -> str:
        a, b = to.value(expr.a), to.value(expr.b)
        return to.result(str(expr.ty.dtype), f"{a} {sign} {b} ? {a} : {b}")

    return rule


def _select(to: Expressions, expr: Expr) -> str:
    condition, a, b = (to.value(part) for part in (expr.condition, expr.true_value, expr.false_value))
    return to.result(str(expr.ty.dtype), f"{condition} ? {a} : {b}")


def _cast(to: Expressions, expr: Expr) -> str:
    dtype, source, value = str(expr.ty.dtype), str(expr.value.ty.dtype), to.value(expr.value)
    if dtype not in KINDS or source not in KINDS:
        raise CannotPrint(f"cast from {source} to {dtype}")
    return value if dtype == source else to.result(dtype, f"{KINDS[dtype]}({value})")


def _load(to: Expressions, expr: Expr) -> str:
    place = to.place(expr.source)
    return to.writer.named(KINDS[place.dtype], place.load(to.index(expr.source, list(expr.indices))))


def _let(to: Expressions, expr: Expr) -> str:
    to.names[expr.var] = to.value(expr.value)
    return to.value(expr.body)


def _call(to: Expressions, expr: Expr) -> str:
    name = str(expr.op.name).rpartition(".")[2]
    if name not in _CALLS:
        raise CannotPrint(f"call of {expr.op.name}")
    return _CALLS[name](to, expr)


def _either(to: Expressions, expr: Expr) -> str:
    """One side alone is evaluated: the other may read where nothing is."""
    condition, a, b = expr.args
    dtype, test = str(expr.ty.dtype), to.value(condition)
    name = to.writer.fresh("either")
    to.writer.line(f"{'precise ' if dtype == 'float32' else ''}{KINDS[dtype]} {name};")
    with to.writer.block(f"if ({test}) {{", closing=""):
        to.writer.line(f"{name} = {to.value(a)};")
    with to.writer.block("} else {"):
        to.writer.line(f"{name} = {to.value(b)};")
    return name


def _function(form: str, *called: str) -> Callable[[Expressions, Expr], str]:
    def rule(to: Expressions, expr: Expr) -> str:
        to.writer.called.update(called)
        return to.result(str(expr.ty.dtype), form.format(*map(to.value, expr.args)))

    return rule


def _float_function(form: str, *called: str) -> Callable[[Expressions, Expr], str]:
    rule = _function(form, *called)

    def checked(to: Expressions, expr: Expr) -> str:
        if str(expr.ty.dtype) != "float32":
            raise CannotPrint(f"call of {expr.op.name} on {expr.ty.dtype}")
        return rule(to, expr)

    return checked


def _reinterpret(to: Expressions, expr: Expr) -> str:
    (argument,) = expr.args
    pair = str(argument.ty.dtype), str(expr.ty.dtype)
    forms = {("int32", "float32"): "intBitsToFloat({})", ("float32", "int32"): "floatBitsToInt({})"}
    if pair not in forms:
        raise CannotPrint(f"reinterpret of {pair[0]} as {pair[1]}")
    return to.result(pair[1], forms[pair].format(to.value(argument)))


_CALLS: Mapping[str, Callable[[Expressions, Expr], str]] = {
    "if_then_else": _either,
    "reinterpret": _reinterpret,
    "likely": lambda to, expr: to.value(expr.args[0]),
    "nearbyint": _float_function("roundEven({})"),
    "floor": _float_function("floor({})"),
    "ceil": _float_function("ceil({})"),
    "trunc": _float_function("trunc({})"),
    "fabs": _float_function("abs({})"),
    "sqrt": _float_function("root({})", "root"),
    "isnan": _function("(floatBitsToUint({}) & 0x7fffffffu) > 0x7f800000u"),
}
_RULES: Mapping[str, Callable[[Expressions, Expr], str]] = {
    **{"IntImm": _literal, "FloatImm": _literal, "Var": _variable, "Cast": _cast, "Select": _select, "Let": _let},
    **{"TensorLoad": _load, "Call": _call, "Div": _divide, "Mod": _remainder},
    **{"Add": _binary("+"), "Sub": _binary("-"), "Mul": _binary("*"), "Max": _extreme(">"), "Min": _extreme("<")},
    **{"FloorDiv": _floor("/", "floordiv"), "FloorMod": _floor("%", "floormod")},
    **{"EQ": _compare("=="), "NE": _compare("!="), "LT": _compare("<"), "LE": _compare("<="), "GT": _compare(">")},
    **{"LShift": _binary("<<"), "RShift": _binary(">>"), "BitwiseAnd": _binary("&"), "BitwiseOr": _binary("|")},
    **{"BitwiseXor": _binary("^"), "GE": _compare(">="), "And": _compare("&&"), "Or": _compare("||")},
    "Not": lambda to, expr: f"(!{to.value(expr.a)})",
}
"""By the class of an expression."""
