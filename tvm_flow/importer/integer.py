"""QDQ graphs become integer arithmetic.

With x = sx (qx - zx) and w[:, n] = sw[n] (qw - zw)[:, n], a QDQ linear is computed as

    acc[m, n] = sum_k qx[m, k] qw[k, n]  - zw[n] sum_k qx[m, k]  + c[n]        exact, int32
    c[n]      = zx (K zw[n] - sum_k qw[k, n]) + bias_q[n]                      a constant
    y[m, n]   = float32(acc[m, n]) * (sx sw[n])  (+ bias[n] when it is float)

so that no float copy of a weight exists. Terms of a zero zero point are left out. uint8 codes are run as int8 ones,
128 less together with their zero point, which changes no real value. A quantize is round-half-even of x / scale, plus
the zero point, saturated (ONNX QuantizeLinear). The pass is lazy: a dequantize is emitted only where a float operator
reads it, and what stays in float although it was quantized is named with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tvm import ir, relax
from tvm.relax import op as R

from tvm_flow.errors import ImportGraphError
from tvm_flow.importer.constants import Array, Constant, Derived, Given, evaluate
from tvm_flow.importer.graph import (
    Builder,
    LiftedGraph,
    bindings_of,
    call_with,
    dtype_of,
    op_name,
    shape_of,
    tensor_var,
)

INT32_SAFE_DEPTH = (2**31 - 1) // (128 * 128)
"""Longest dot product of int8 codes that cannot leave int32."""

MOVES = {"relax.reshape", "relax.permute_dims", "relax.squeeze", "relax.expand_dims"}
"""Operators that only move elements, and so commute with a per-tensor dequantize."""


@dataclass(frozen=True)
class Codes:
    """A quantized tensor: int8 codes, their scale and zero point (None when it is zero)."""

    q: Any
    scale: Any
    zero_point: Any | None
    axis: int | None
    """Channel axis of ``scale``; None for a per-tensor scale."""


@dataclass(frozen=True)
class Accumulator:
    """An int32 tensor and the float32 multiplier that turns it into real values."""

    acc: Any
    multiplier: Any
    scales: tuple[Constant, Constant]


def to_integer(graph: LiftedGraph) -> LiftedGraph:
    """Rewrite every quantize, dequantize and quantized linear of ``graph``; see the module's formulas.

    Raises ImportGraphError when a scale or zero point is not a constant, or a dot product could leave int32.
    """
    return _IntegerPass(graph).run()


@dataclass
class _IntegerPass:
    graph: LiftedGraph
    builder: Builder = field(init=False)
    env: dict[Any, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def run(self) -> LiftedGraph:
        main = self.graph.module["main"]
        count = len(self.graph.inputs)
        inputs = [tensor_var(p.name, shape_of(p), dtype_of(p)) for p in main.params[:count]]
        self.builder = Builder(inputs)
        self.env = dict(zip(main.params[:count], inputs, strict=True))
        with self.builder.block.function("main"):
            with self.builder.block.dataflow():
                for var, value in bindings_of(main):
                    self.env[var] = self.rewrite(var, value)
                output = self.builder.block.emit_output(self.floating(main.body.body))
            self.builder.block.emit_func_output(output, [*inputs, *self.builder.parameters.values()])
        left = (*self.graph.left_in_float, *self.left)
        return LiftedGraph(
            self.builder.block.get(), self.graph.inputs, self.builder.constants, self.graph.given, left
        )

    def rewrite(self, var: Any, value: Any) -> Any:
        """What ``var`` stands for from now on: an expression, `Codes`, or an `Accumulator`."""
        name = op_name(value)
        if name == "relax.dequantize":
            return self.dequantized(value)
        if name == "relax.quantize":
            return self.quantize(value)
        if name in MOVES and isinstance(moved := self.move(value), Codes):
            return moved
        if name == "relax.matmul" and (product := self.linear(var, value)) is not None:
            return product
        if name == "relax.add" and (sum_ := self.bias_add(value)) is not None:
            return sum_
        if isinstance(value, relax.Tuple):
            return self.floating(value)
        if not name:
            return self.builder.emit(value)
        return self.builder.emit(call_with(value, [self.floating(a) for a in value.args]))

    def resolve(self, expr: Any) -> Any:
        """``expr`` after the rewriting so far; an initializer becomes a parameter on first use."""
        if not isinstance(expr, relax.Var):
            return expr
        if expr in self.env:
            return self.env[expr]
        self.env[expr] = self.builder.given(expr)
        return self.env[expr]

    def floating(self, expr: Any) -> Any:
        """``expr`` as an ordinary tensor, with a dequantize emitted when it is still in codes."""
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.floating(field) for field in expr.fields])
        value = self.resolve(expr)
        if isinstance(value, Codes):
            value = self.emit_dequantize(value)
        elif isinstance(value, Accumulator):
            value = self.builder.emit(R.multiply(self.builder.emit(R.astype(value.acc, "float32")), value.multiplier))
        if isinstance(expr, relax.Var):
            self.env[expr] = value
        return value

    def constant_of(self, expr: Any) -> Constant:
        """Provenance of a parameter of the new function."""
        name = getattr(expr, "name", None)
        if name is None or name not in self.builder.constants:
            raise ImportGraphError(
                f"{expr}: expected a constant scale, zero point or weight, got a computed value; quantize statically"
            )
        return self.builder.constants[name]

    def array(self, expr: Any) -> Array:
        """Value of a constant expression."""
        if isinstance(expr, ir.Constant):
            return np.asarray(expr.value.numpy())
        return evaluate(self.constant_of(expr), self.graph.given)

    def derive(self, name: str, rule: str, *sources: Any, options: tuple[int, ...] = ()) -> Any:
        """A parameter computed from other parameters at build time."""
        constant = Derived(rule, tuple(self.constant_of(s) for s in sources), options)
        value = evaluate(constant, self.graph.given)
        return self.builder.parameter(name, constant, value.shape, str(value.dtype))

    def signed(self, expr: Any) -> Any:
        """``expr`` (constant codes or zero point) as int8."""
        if dtype_of(expr) != "uint8":
            return expr
        return self.derive(f"{expr.name}.s8", "to_signed", expr)

    def zero_point(self, expr: Any, constant_codes: bool) -> Any | None:
        """int8 zero point, or None when the graph says it is zero for every step.

        A zero point stored beside constant codes is part of the model; one of an activation can differ from step to
        step, so only a literal zero (an omitted input) is dropped there and equal graphs stay equal.
        """
        if isinstance(expr, ir.Constant):
            value = self.array(expr)
            shifted = value.astype(np.int16) - (128 if str(value.dtype) == "uint8" else 0)
            return None if not shifted.any() else relax.const(shifted.astype(np.int8))
        resolved = self.signed(self.resolve(expr))
        return None if constant_codes and not self.array(resolved).any() else resolved

    def dequantized(self, call: Any) -> Any:
        """`Codes` for an 8-bit input; int32 bias codes likewise; anything else stays a float operator."""
        q = self.resolve(call.args[0])
        if isinstance(q, Codes) or dtype_of(q) not in ("int8", "uint8", "int32"):
            raise ImportGraphError(f"{call}: expected int8, uint8 or int32 codes, got {q}; use 8-bit quantization")
        constant = getattr(q, "name", "") in self.builder.constants
        scale = self.resolve(call.args[1])
        axis = int(call.attrs.axis) if len(shape_of(scale)) == 1 and shape_of(scale) != (1,) else None
        if dtype_of(q) == "uint8" and constant:
            q = self.signed(q)
        elif dtype_of(q) == "uint8":
            q = self.builder.emit(
                R.astype(R.subtract(R.astype(q, "int16"), relax.const(128, "int16")), "int8")
            )
        return Codes(q, scale, self.zero_point(call.args[2], constant), axis)

    def emit_dequantize(self, codes: Codes) -> Any:
        """float32(q - zero point) * scale, in floating point."""
        value = self.builder.emit(R.astype(codes.q, "float32"))
        if codes.zero_point is not None:
            zero = self.broadcast(self.builder.emit(R.astype(codes.zero_point, "float32")), codes)
            value = self.builder.emit(R.subtract(value, zero))
        return self.builder.emit(R.multiply(value, self.broadcast(codes.scale, codes)))

    def broadcast(self, vector: Any, codes: Codes) -> Any:
        """``vector`` shaped to lie along the channel axis of ``codes``."""
        rank = len(shape_of(codes.q))
        if codes.axis is None or codes.axis % rank == rank - 1 or not shape_of(vector):
            return vector
        shape = [1] * rank
        shape[codes.axis] = shape_of(vector)[0]
        return self.builder.emit(R.reshape(vector, shape))

    def quantize(self, call: Any) -> Any:
        """Codes of a float tensor: saturate(rint(x / scale) + zero point)."""
        x = self.floating(call.args[0])
        scale, like = self.resolve(call.args[1]), Codes(x, None, None, int(call.attrs.axis))
        value = self.builder.emit(R.divide(x, self.broadcast(scale, like)))
        value = self.builder.emit(R.round(value))
        zero = self.zero_point(call.args[2], constant_codes=False)
        if zero is not None:
            zero = self.builder.emit(R.astype(zero, "float32"))
            value = self.builder.emit(R.add(value, self.broadcast(zero, like)))
        value = self.builder.emit(R.clip(value, -128, 127))
        return self.builder.emit(R.astype(value, "int8"))

    def move(self, call: Any) -> Any:
        """`Codes` moved without leaving int8, where the scale allows it."""
        codes = self.resolve(call.args[0])
        if not isinstance(codes, Codes):
            return None
        constant = getattr(codes.q, "name", "") in self.builder.constants
        if constant and op_name(call) == "relax.permute_dims" and len(shape_of(codes.q)) == 2:
            axis = None if codes.axis is None else 1 - codes.axis % 2
            return Codes(self.derive(f"{codes.q.name}.T", "transpose", codes.q), codes.scale, codes.zero_point, axis)
        if constant or codes.axis is not None:
            return None
        moved = self.builder.emit(call_with(call, [codes.q, *call.args[1:]]))
        return Codes(moved, codes.scale, codes.zero_point, None)

    def linear(self, var: Any, call: Any) -> Accumulator | None:
        """int8 x int8 -> int32 for a quantized activation times a quantized weight; None when it must stay float."""
        x, w = (self.resolve(a) for a in call.args)
        if not isinstance(x, Codes) and not isinstance(w, Codes):
            return None
        if reason := self.obstacle(x, w):
            self.left.append(f"matmul {var.name}: {reason}")
            return None
        acc = self.builder.emit(R.matmul(x.q, w.q, out_dtype="int32"))
        if w.zero_point is not None:
            rows = self.builder.emit(R.sum(self.builder.emit(R.astype(x.q, "int32")), axis=-1, keepdims=True))
            zero = self.builder.emit(R.astype(w.zero_point, "int32"))
            acc = self.builder.emit(R.subtract(acc, self.builder.emit(R.multiply(rows, zero))))
        if x.zero_point is not None:
            acc = self.builder.emit(R.add(acc, self.correction(x, w)))
        multiplier = self.derive(f"{w.q.name}.multiplier.{var.name}", "product", x.scale, w.scale)
        return Accumulator(acc, multiplier, (self.constant_of(x.scale), self.constant_of(w.scale)))

    def obstacle(self, x: Any, w: Any) -> str:
        """Why this product cannot be an integer one; empty when it can."""
        if not isinstance(x, Codes) or not isinstance(w, Codes):
            return "one operand is not quantized"
        if getattr(w.q, "name", "") not in self.builder.constants or len(shape_of(w.q)) != 2:
            return "the right operand is not a constant matrix"
        if x.axis is not None:
            return "the activation has a scale per channel"
        if w.axis is not None and w.axis % 2 != 1:
            return "the weight has scales along its input channels"
        if shape_of(w.q)[0] > INT32_SAFE_DEPTH:
            return f"{shape_of(w.q)[0]} products of int8 codes could leave int32 (at most {INT32_SAFE_DEPTH})"
        return ""

    def correction(self, x: Codes, w: Codes) -> Any:
        """c[n] of the module's formula, without the bias."""
        zx = self.as_parameter(x.zero_point, "activation_zero_point")
        zw = self.as_parameter(w.zero_point if w.zero_point is not None else relax.const(0, "int8"), "zero_point")
        return self.derive(f"{w.q.name}.correction.{zx.name}", "zero_point_correction", zx, w.q, zw)

    def as_parameter(self, expr: Any, stem: str) -> Any:
        """A literal as a parameter, so that rules can name it."""
        if not isinstance(expr, ir.Constant):
            return expr
        value = self.array(expr)
        name = f"{stem}.{value.item()}"
        self.graph.given[name] = value
        return self.builder.parameter(name, Given(name), value.shape, str(value.dtype))

    def bias_add(self, call: Any) -> Any:
        """Add int32 bias codes into an accumulator they share the scale of; None for any other addition."""
        for acc, bias in (call.args, reversed(call.args)):
            acc, bias = self.resolve(acc), self.resolve(bias)
            if isinstance(acc, Accumulator) and isinstance(bias, Codes) and dtype_of(bias.q) == "int32":
                if bias.zero_point is None and self.same_scale(acc, bias):
                    return Accumulator(self.builder.emit(R.add(acc.acc, bias.q)), acc.multiplier, acc.scales)
        return None

    def same_scale(self, acc: Accumulator, bias: Codes) -> bool:
        """True when the bias scale is sx * sw to one float32 rounding, as every exporter writes it."""
        product = np.multiply(*(evaluate(s, self.graph.given) for s in acc.scales), dtype=np.float64)
        return bool(np.all(np.abs(self.array(bias.scale) - product) <= 2.0**-23 * np.abs(product)))
