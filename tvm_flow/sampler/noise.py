"""Unit Gaussian noise that depends on a seed, a stream and a place alone, with the same bits in C and in Python.

    key    = mix(seed + stream * A)              modulo 2^64; A = 0x9e3779b97f4a7c15
    bits_i = mix(key + (i + 1) * A) >> 32        SplitMix64 (Steele, Lea and Flood, 2014)
    u_i    = (bits_i + 1/2) / 2^32
    x_i    = inverse of the normal distribution at u_i, rounded to float32

The inverse is AS 241 (Wichura, 1988; PPND16), exact to 16 digits, from sums, products, quotients and square roots
alone, and the logarithm below: all of them the same wherever doubles are IEEE's. 32 bits reach 6.3 standard
deviations, so that AS 241's third interval is never needed, and are finer than float32.

Stream 0 is for the noise that a trajectory starts from, stream i + 1 for what a sampler draws at step i. The C runtime
(src/noise.c) draws the latter itself when its caller does not.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Words = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
# AS 241, of r = 0.180625 - (u - 1/2)^2 in the middle and of sqrt(-log(tail)) - 1.6 in the tails: coefficients of the
# numerator and of the denominator, highest power first.
MIDDLE = (
    *((2.5090809287301226727e3, 5.2264952788528545610e3), (3.3430575583588128105e4, 2.8729085735721942674e4)),
    *((6.7265770927008700853e4, 3.9307895800092710610e4), (4.5921953931549871457e4, 2.1213794301586595867e4)),
    *((1.3731693765509461125e4, 5.3941960214247511077e3), (1.9715909503065514427e3, 6.8718700749205790830e2)),
    *((1.3314166789178437745e2, 4.2313330701600911252e1), (3.3871328727963666080e0, 1.0)),
)
TAIL = (
    *((7.74545014278341407640e-4, 1.05075007164441684324e-9), (2.27238449892691845833e-2, 5.47593808499534494600e-4)),
    *((2.41780725177450611770e-1, 1.51986665636164571966e-2), (1.27045825245236838258e0, 1.48103976427480074590e-1)),
    *((3.64784832476320460504e0, 6.89767334985100004550e-1), (5.76949722146069140550e0, 1.67638483018380384940e0)),
    *((4.63033784615654529590e0, 2.05319162663775882187e0), (1.42343711074968357734e0, 1.0)),
)


def seeded_noise(seed: int, stream: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """float32 ``shape``; ``seed`` and ``stream`` are taken modulo 2^64."""
    key = int(_mix(np.array([(seed + stream * GOLDEN) & _MASK], np.uint64))[0])
    places = np.arange(1, prod(shape) + 1, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(key)
    u = ((_mix(places) >> np.uint64(32)).astype(np.float64) + 0.5) / 2.0**32
    return normal_quantile(u).astype(np.float32).reshape(shape)


def normal_quantile(u: Doubles) -> Doubles:
    """Where the standard normal distribution function is ``u``, float64 within 2^-33 and 1 - 2^-33."""
    q = u - 0.5
    middle = q * _ratio(MIDDLE, 0.180625 - q * q)
    tail = np.minimum(u, 1.0 - u)
    outer = _ratio(TAIL, np.sqrt(-logarithm(tail)) - 1.6)
    return np.where(np.abs(q) <= 0.425, middle, np.where(q < 0, -outer, outer))


def logarithm(x: Doubles) -> Doubles:
    """Natural logarithm of a positive double, within 1e-13 of it: x = m 2^e with m in [0.7, 1.42), and
    log m = 2 (s + s^3 / 3 + ... + s^15 / 15) with s = (m - 1) / (m + 1), |s| < 0.18.
    """
    m, e = np.frexp(x)
    low = m < 0.7071067811865476
    m, e = np.where(low, 2.0 * m, m), np.where(low, e - 1, e)
    s = (m - 1.0) / (m + 1.0)
    total = np.full_like(s, 1.0 / 15.0)
    for k in range(13, 0, -2):
        total = total * (s * s) + 1.0 / k
    return e * 0.6931471805599453 + 2.0 * s * total


def _ratio(coefficients: tuple[tuple[float, float], ...], r: Doubles) -> Doubles:
    above, below = np.zeros_like(r), np.zeros_like(r)
    for a, b in coefficients:
        above, below = above * r + a, below * r + b
    return above / below


def _mix(x: Words) -> Words:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
