"""float32 products, and convolutions as products, tiled through shared memory.

    Y[b, m, n] = sum_k L[b, m, k] R[b, k, n]

Of a convolution b is an image, m an output channel, n a place and k = (c, i, j), so L is its weights as they lie and R
what a place sees, read from the padded image where it is and never written out:

    Y[b, o, h, w] = sum_{c, i, j} X[b, c, h + i, w + j] W[o, c, i, j]

A workgroup makes tiles as one of `tvm_flow.backends.vulkan.product` does, in the same sizes by vendor, with a vec4 of
floats where that has an ivec4 of codes. Terms are added one after the other, steps of K in order, with zeros past its
end, and may be fused with their products: within the bound of a sum in any order, which the reference gives both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tvm_flow.backends.cpu.convolution import Convolution, as_convolution
from tvm_flow.backends.vulkan.places import ArgumentPlace
from tvm_flow.backends.vulkan.printer import GROUP_NUMBER, Printed, head
from tvm_flow.backends.vulkan.product import SIDE, TILES
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.graph.types import Relax
from tvm_flow.target.vulkan_device import VulkanDevice


@dataclass(frozen=True)
class FloatProduct:
    """See the module: extents, positions of L and R among the arguments, GLSL of the place in each of an element."""

    batch: int
    m: int
    k: int
    n: int
    operands: tuple[int, int]
    left: str
    right: str
    kind: str
    tile: tuple[int, int, int] = (1, 1, 1)

    @property
    def groups(self) -> int:
        """Workgroups, one for each tile."""
        tm, tn, _ = self.tile
        return self.batch * math.ceil(self.m / (SIDE * tm)) * math.ceil(self.n / (SIDE * tn))

    @property
    def shared_bytes(self) -> int:
        """A step's tiles of both operands, a vec4 longer than is used: neighbours lie in other banks."""
        tm, tn, bk = self.tile
        return 16 * SIDE * (tm + tn) * (bk + 1)


def as_float_product(function: Relax, device: VulkanDevice) -> FloatProduct | None:
    """The product or convolution that ``function`` is and nothing else, with a tile for ``device``; or None."""
    if any(dtype_of(var) != "float32" for var in (*function.params, function.body.body)):
        return None
    convolution = as_convolution(function)
    found = _matmul(function) if convolution is None else _convolution(convolution)
    if found is None:
        return None
    tm, tn, bk = TILES[device.vendor]
    tile = (min(tm, math.ceil(found.m / SIDE)), min(tn, math.ceil(found.n / SIDE)), min(bk, math.ceil(found.k / 4)))
    return replace(found, tile=tile)


def _convolution(shapes: Convolution) -> FloatProduct:
    (_, channels, height, width), (_, _, kh, kw) = shapes.images, shapes.weight
    images, outputs, rows, columns = shapes.output
    channel = f"(b * {channels} + k / {kh * kw}) * {height}"
    right = f"({channel} + n / {columns} + k / {kw} % {kh}) * {width} + n % {columns} + k % {kw}"
    depth = channels * kh * kw
    return FloatProduct(images, outputs, depth, rows * columns, (1, 0), "m * K + k", right, "convolution")


def _matmul(function: Relax) -> FloatProduct | None:
    """With as many matrices on either side, or one on the right for all rows."""
    bodies = [value for _, value in bindings_of(function) if op_name(value)]
    place = {parameter: position for position, parameter in enumerate(function.params)}
    if [op_name(body) for body in bodies] != ["relax.matmul"] or not set(bodies[0].args) <= place.keys():
        return None
    shapes = [shape_of(operand) for operand in bodies[0].args]
    if min(map(len, shapes)) < 2:
        return None
    (*batch, m, k), (*others, _, n) = shapes
    operands = (place[bodies[0].args[0]], place[bodies[0].args[1]])
    if math.prod(others) == 1:
        return FloatProduct(1, math.prod(batch) * m, k, n, operands, "m * K + k", "k * N + n", "float product")
    if batch != others:
        return None
    right = "(b * K + k) * N + n"
    return FloatProduct(math.prod(batch), m, k, n, operands, "(b * M + m) * K + k", right, "float product")


_HEAD = """
layout(constant_id = 0) const int TM = 2;
layout(constant_id = 1) const int TN = 4;
layout(constant_id = 2) const int BK = 2;
const int M = @M@, K = @K@, N = @N@, BM = @SIDE@ * TM, BN = @SIDE@ * TN;
shared vec4 rows[BM * (BK + 1)];
shared vec4 columns[BN * (BK + 1)];

float left(int b, int m, int at) { int k = min(at, K - 1); float x = @LEFT@; return at < K ? x : 0.0; }
float right(int b, int at, int n) { int k = min(at, K - 1); float x = @RIGHT@; return at < K ? x : 0.0; }
"""
_MAIN = """
void main() {
  int lane = int(gl_LocalInvocationID.x), across = lane % @SIDE@, down = lane / @SIDE@;
  @GROUP@
  if (group >= @GROUPS@) return;
  int wide = (N + BN - 1) / BN, tiles = (M + BM - 1) / BM * wide, b = group / tiles;
  int m0 = group % tiles / wide * BM, n0 = group % tiles % wide * BN;
  float sum[TM * TN];
  for (int i = 0; i < TM * TN; i++) sum[i] = 0.0;
  for (int k0 = 0; k0 < K; k0 += 4 * BK) {
    barrier();
    for (int i = lane; i < BM * BK; i += @LANES@) {
      int m = min(m0 + i / BK, M - 1), k = k0 + 4 * (i % BK);
      rows[i / BK * (BK + 1) + i % BK] = vec4(left(b, m, k), left(b, m, k + 1), left(b, m, k + 2), left(b, m, k + 3));
    }
    for (int i = lane; i < BN * BK; i += @LANES@) {
      int n = min(n0 + i % BN, N - 1), k = k0 + 4 * (i / BN);
      columns[i % BN * (BK + 1) + i / BN] =
        vec4(right(b, k, n), right(b, k + 1, n), right(b, k + 2, n), right(b, k + 3, n));
    }
    barrier();
    for (int q = 0; q < BK; q++) {
      vec4 row[TM];
      for (int i = 0; i < TM; i++) row[i] = rows[(down * TM + i) * (BK + 1) + q];
      for (int j = 0; j < TN; j++) {
        vec4 column = columns[(across + @SIDE@ * j) * (BK + 1) + q];
        for (int i = 0; i < TM; i++) {
          vec4 each = row[i] * column;
          sum[i * TN + j] += each.x + each.y + each.z + each.w;
        }
      }
    }
  }
  for (int i = 0; i < TM; i++) {
    int m = m0 + down * TM + i;
    for (int j = 0; j < TN; j++) {
      int n = n0 + across + @SIDE@ * j;
      if (m < M && n < N) @RESULT@ = floatBitsToUint(sum[i * TN + j]);
    }
  }
}
"""


def print_float_product(product: FloatProduct, arguments: tuple[ArgumentPlace, ...]) -> Printed:
    """GLSL of ``product``."""
    left, right = (arguments[position] for position in product.operands)
    parts = {
        **{"M": product.m, "K": product.k, "N": product.n, "GROUPS": product.groups, "GROUP": GROUP_NUMBER},
        **{"SIDE": SIDE, "LANES": SIDE * SIDE, "RESULT": arguments[-1].word("(b * M + m) * N + n")},
        **{"LEFT": left.load(product.left), "RIGHT": right.load(product.right)},
    }
    template, main = _HEAD, _MAIN
    for name, value in parts.items():
        template, main = (text.replace(f"@{name}@", str(value)) for text in (template, main))
    text = head(arguments, SIDE * SIDE) + template + main
    return Printed(text, SIDE * SIDE, product.groups, product.shared_bytes, product.tile)
