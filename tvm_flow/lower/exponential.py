"""exp in single precision as arithmetic that every target vectorises, with a proven error.

    n = rint(x log2 e);  r = (x - n C1) - n C2;  exp(x) = 2^(n - 1) (2 (1 + r + r^2 p(r)))

C1 + C2 = ln 2 with C1 of ten significant bits, so n C1 is exact (Cody and Waite 1980); p is the degree-5 polynomial of
the Cephes library's expf (S. Moshier), whose own error on |r| <= ln(2) / 2 is below 2^-26. n is -125 to 128: arguments
above `UPPER` are taken as it, the result below `LOWER` is exactly zero, and 2^(n - 1) is a normal number, so that no
intermediate is subnormal and only the last product can overflow, to infinity, where the result does. NaN passes every
comparison.

Error, with u = 2^-24: the reduction leaves |r| wrong by at most u |n C2| + u |r| < 0.03 u + 0.35 u; the polynomial and
the two last additions round to at most 1.5 u + 0.35 (0.5 u + ...) < 2.6 u relative to a sum of at least 0.7; doubling
and the last product are exact. Together less than `RELATIVE_ERROR` = 4 u. So a result is infinite where the exact one
is beyond float32 by more than 4 u, finite where it is within by more than 4 u, and either between.

`weight_expression` is the same of an argument of at most 0, as softmax has it, with fewer operations: n is at least
-127, whose power of two is written as the bits of zero, so that nothing else has to make a small result zero; and the
polynomial is one of degree 6 in all, fitted to exp(r) with its first two coefficients 1, wrong by less than 0.07 u.
With its last addition's u, 1.2 u of the products and sums before, each at most |r| as large, and the reduction's
0.38 u, that is within `RELATIVE_ERROR` too. A result of zero is wrong by at most 2^-126.5; one below 2^-126 is a
subnormal number or zero: both are within `ABSOLUTE_ERROR`. `falling_expression` is `exp_expression`
of an argument of at most 0, with that power of two.
"""

from __future__ import annotations

from typing import Any

from tvm import te, tirx

RELATIVE_ERROR = 4 * 2.0**-24
UPPER = 88.8
"""exp(UPPER) is 3.7e38, beyond float32."""
LOWER = -86.98
"""The least argument, to two digits, whose n is -125."""
ABSOLUTE_ERROR = 1.7e-38
"""exp(LOWER), which is what a result of zero can be wrong by."""

_LOG2E = 1.44269504088896341
_C1 = 0.693359375
_C2 = -2.12194440e-4
_POLYNOMIAL = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)

_LEAST_WEIGHT = -88.0
"""Its n is -127."""
_TO_BITS = float(3 << 22 | 127)
"""Added to n, its bits end in those of n + 127."""
_WEIGHT = (1.3814540079e-3, 8.3687452128e-3, 4.1668390793e-2, 1.6666520398e-1, 4.9999993432e-1, 1.0, 1.0)


def exp_expression(x: Any) -> Any:
    """float32 expression for exp of the float32 expression ``x``."""

    # Of two operands, LLVM's code takes the second when they do not compare.
    clamped = tirx.max(_f32(LOWER), tirx.min(_f32(UPPER), x))
    n, r, poly = _reduced(clamped, _POLYNOMIAL)
    mantissa = poly * (r * r) + r + _f32(1.0)
    exponent = tirx.shift_left(n.astype("int32") + tirx.const(126, "int32"), tirx.const(23, "int32"))
    value = (mantissa + mantissa) * tirx.reinterpret("float32", exponent)
    # Not a Select: TVM makes a branch of one that reads memory, and then a scalar loop of the vectors around it.
    kept = (x < _f32(LOWER)).astype("int32") - tirx.const(1, "int32")
    return tirx.reinterpret("float32", tirx.bitwise_and(tirx.reinterpret("int32", value), kept))


def weight_expression(x: Any) -> Any:
    """float32 expression for exp of the float32 expression ``x``, which is at most 0 or NaN."""

    clamped = tirx.max(_f32(_LEAST_WEIGHT), x)
    n, _, poly = _reduced(clamped, _WEIGHT)
    return poly * _power_of_two(n)


def falling_expression(x: Any) -> Any:
    """`exp_expression` of a float32 expression ``x`` that is at most 0, bit for bit where its result is not 0.

    Where that is 0, this is at most 2^-125.

    Twice the mantissa times 2^(n - 1) is the mantissa times 2^n, which is a normal number too, as n is at most 0.
    """

    clamped = tirx.max(_f32(LOWER), x)
    n, r, poly = _reduced(clamped, _POLYNOMIAL)
    return (poly * (r * r) + r + _f32(1.0)) * _power_of_two(n)


def _f32(value: float) -> Any:
    return tirx.const(value, "float32")


def _reduced(clamped: Any, coefficients: tuple[float, ...]) -> tuple[Any, Any, Any]:
    """n, r and the polynomial of r."""
    n = tirx.nearbyint(clamped * _f32(_LOG2E))
    r = (clamped - n * _f32(_C1)) - n * _f32(_C2)
    poly = _f32(coefficients[0])
    for coefficient in coefficients[1:]:
        poly = poly * r + _f32(coefficient)
    return n, r, poly


def _power_of_two(n: Any) -> Any:
    """2^n of an n from -127, which gives zero, to 127."""
    bits = tirx.shift_left(tirx.reinterpret("int32", n + _f32(_TO_BITS)), tirx.const(23, "int32"))
    return tirx.reinterpret("float32", bits)


def te_exp(x: Any) -> Any:
    """Tensor expression of exp, elementwise."""
    return te.compute(x.shape, lambda *i: exp_expression(x(*i)), name="exp")
