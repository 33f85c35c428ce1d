"""GLSL functions for what Vulkan leaves open: division, square root, floor division; each is added where it is called.

Vulkan allows a division 2.5 units in the last place and a square root some 5, and says nothing of infinities. Here the
device's own result is an estimate only. With 24-bit mantissas A and B, A >= B, the quotient to 24 bits is Q = floor(A
2^23 / B); the remainder A 2^23 - Q B of an estimate of Q that is off by a few is below 2^31 in size, so 32-bit
arithmetic has it exactly although its parts overflow. Divided by B it says how far Q is off, a few units that are sure
to one, which the sign of what is left corrects; that then decides the rounding, to nearest even. Likewise S =
floor(sqrt(M 2^k)) by the remainder M 2^k - S^2. Subnormal operands are normalized first, subnormal results rounded
where they end. There are no loops, which drivers would unroll wherever a quotient is taken.
"""

from __future__ import annotations

from collections.abc import Mapping

_DIVIDE = """
float divide(float a, float b) {
  uint ua = floatBitsToUint(a), ub = floatBitsToUint(b), sign = (ua ^ ub) & 0x80000000u;
  int ea = int(ua >> 23u & 255u), eb = int(ub >> 23u & 255u);
  uint ma = ua & 0x7fffffu, mb = ub & 0x7fffffu;
  bool a_zero = ea == 0 && ma == 0u, b_zero = eb == 0 && mb == 0u;
  if (ea == 255 || eb == 255 || a_zero || b_zero) {
    bool a_huge = ea == 255, b_huge = eb == 255;
    bool none = (a_huge && ma != 0u) || (b_huge && mb != 0u) || (a_huge && b_huge) || (a_zero && b_zero);
    return uintBitsToFloat(none ? 0x7fc00000u : a_huge || b_zero ? sign | 0x7f800000u : sign);
  }
  if (ea == 0) { int up = 23 - findMSB(ma); ma <<= uint(up); ea = 1 - up; } else ma |= 0x800000u;
  if (eb == 0) { int up = 23 - findMSB(mb); mb <<= uint(up); eb = 1 - up; } else mb |= 0x800000u;
  if (ma < mb) { ma <<= 1u; ea -= 1; }
  uint q = uint(float(ma) / float(mb) * 8388608.0);
  int rest = int((ma << 23u) - q * mb), divisor = int(mb), off = int(floor(float(rest) / float(divisor)));
  q += uint(off);
  rest -= off * divisor;
  if (rest < 0) { q -= 1u; rest += divisor; }
  if (rest >= divisor) { q += 1u; rest -= divisor; }
  int e = ea - eb + 127;
  if (e >= 255) return uintBitsToFloat(sign | 0x7f800000u);
  if (e >= 1) {
    uint up = 2 * rest > divisor || (2 * rest == divisor && (q & 1u) == 1u) ? 1u : 0u;
    return uintBitsToFloat(sign | ((uint(e) << 23u) + (q - 0x800000u) + up));
  }
  uint down = uint(1 - e);
  if (down > 24u) return uintBitsToFloat(sign);
  uint kept = q >> down, lost = q & ((1u << down) - 1u), half_way = 1u << (down - 1u);
  uint up = lost > half_way || (lost == half_way && (rest > 0 || (kept & 1u) == 1u)) ? 1u : 0u;
  return uintBitsToFloat(sign | (kept + up));
}
"""

_ROOT = """
float root(float x) {
  uint u = floatBitsToUint(x), m = u & 0x7fffffu;
  int e = int(u >> 23u & 255u);
  if (e == 0 && m == 0u) return x;
  if (e == 255 && m != 0u || u >> 31u == 1u) return uintBitsToFloat(0x7fc00000u);
  if (e == 255) return x;
  if (e == 0) { int up = 23 - findMSB(m); m <<= uint(up); e = 1 - up; } else m |= 0x800000u;
  uint k = (e & 1) == 1 ? 23u : 24u;
  uint s = uint(sqrt(float(m) * (k == 24u ? 2.384185791015625e-07 : 1.1920928955078125e-07)) * 8388608.0);
  int off = int(floor(float(int((m << k) - s * s)) / float(2u * s)));
  s += uint(off);
  int rest = int((m << k) - s * s);
  if (rest < 0) { s -= 1u; rest += int(2u * s + 1u); }
  if (rest < 0) { s -= 1u; rest += int(2u * s + 1u); }
  if (rest > int(2u * s)) { rest -= int(2u * s + 1u); s += 1u; }
  uint up = rest > int(s) ? 1u : 0u;
  return uintBitsToFloat((uint((e - 150 - int(k)) / 2 + 150) << 23u) + (s + up - 0x800000u));
}
"""

_FLOORDIV = """
int floordiv(int a, int b) {
  int q = a / b, r = a - q * b;
  return r != 0 && (r < 0) != (b < 0) ? q - 1 : q;
}
"""
_FLOORMOD = """
int floormod(int a, int b) { return a - floordiv(a, b) * b; }
"""

FUNCTIONS: Mapping[str, str] = {"divide": _DIVIDE, "root": _ROOT, "floordiv": _FLOORDIV, "floormod": _FLOORMOD}
"""Definitions by name, each after those that it calls."""
NEEDS: Mapping[str, tuple[str, ...]] = {"floormod": ("floordiv",)}


def definitions(called: frozenset[str]) -> str:
    """GLSL of the functions ``called`` and of what they call."""
    wanted = called.union(*(NEEDS.get(name, ()) for name in called))
    return "".join(text for name, text in FUNCTIONS.items() if name in wanted)
