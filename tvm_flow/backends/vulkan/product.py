"""int8 products [M, K] x [K, N] with their epilogue, tiled through shared memory.

A workgroup of `SIDE` x `SIDE` invocations makes a tile of SIDE TM rows and SIDE TN columns; an invocation keeps TM x TN
sums and reads its operands from shared memory 16 codes at a time, as ``ivec4``: elements of 16 bytes are what every
driver's barrier is known to refresh whole. Four codes lie in a word, for the activations as they are, for the weights
as `WEIGHTS` packs them. The tile, specialization constants 0 (TM), 1 (TN) and 2 (BK, ivec4 along K of a step), comes
from `TILES`, by vendor; nothing else of the code depends on it.

Four products of codes and their sum are one instruction where the target has it, and exact either way: K 2^14 stays
within int32 for K below 2^17, which `tvm_flow.numerics.quantize.accumulate` holds graphs to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tvm_flow.backends.cpu.layout import BlockedColumns
from tvm_flow.backends.vulkan.arithmetic import definitions
from tvm_flow.backends.vulkan.epilogue import epilogue_of
from tvm_flow.backends.vulkan.expressions import Writer
from tvm_flow.backends.vulkan.places import ArgumentPlace
from tvm_flow.backends.vulkan.printer import GROUP_NUMBER, Printed, head
from tvm_flow.graph.lifted import bindings_of, dtype_of, op_name, shape_of
from tvm_flow.graph.types import PrimFunc, Relax
from tvm_flow.target.vulkan_device import VulkanDevice

WEIGHTS = BlockedColumns(32, 4)
SIDE = 8
TILES: Mapping[str, tuple[int, int, int]] = {
    **{"adreno": (4, 8, 2), "amd": (4, 8, 4), "nvidia": (4, 8, 4), "intel": (4, 4, 4), "llvmpipe": (4, 8, 4)},
    **{"arm": (2, 4, 2), "imagination": (2, 4, 2), "v3d": (2, 4, 2), "unknown": (2, 4, 2)},
}
"""TM, TN, BK by vendor. Where tiles were measured elsewhere, wide ones cost Mali several times, Adreno a tenth
(executorch 22909); llvmpipe, measured on 256x1152x1152 in seconds of a CPU: 1.8 GMAC/s by (4, 8, 4), 1.4 by (8, 8, 4),
0.75 by (4, 4, 4). Starting points for a tuner."""


@dataclass(frozen=True)
class VulkanProduct:
    """An integer product kernel whose weights, argument 1, are packed as ``layout``."""

    m: int
    k: int
    n: int
    layout: BlockedColumns = WEIGHTS


def packed_product(function: Relax, constant: tuple[bool, ...]) -> VulkanProduct | None:
    """The product that ``function`` is, where its weights are ``constant`` and its shapes are of whole words; or None.

    K has to be of whole words; so has N where the output is of bytes.
    """
    calls = [value for _, value in bindings_of(function) if op_name(value)]
    if not calls or op_name(calls[0]) != "relax.matmul" or not constant[1]:
        return None
    x, w = calls[0].args
    if (dtype_of(x), dtype_of(w)) != ("int8", "int8") or len(shape_of(x)) != 2 or len(shape_of(w)) != 2:
        return None
    (m, k), (_, n), output = shape_of(x), shape_of(w), function.body.body
    plain = x.same_as(function.params[0]) and w.same_as(function.params[1]) and shape_of(output) == (m, n)
    whole = k % 4 == 0 and (n % 4 == 0 or dtype_of(output) in ("float32", "int32"))
    return VulkanProduct(m, k, n) if plain and whole else None


_DOT_INSTRUCTION = """
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int packed_dot(int a, int b, spirv_literal int form);
int dot4(int a, int b) { return packed_dot(a, b, 0); }
"""
_DOT_PLAIN = """
int dot4(int a, int b) {
  return bitfieldExtract(a, 0, 8) * bitfieldExtract(b, 0, 8) + bitfieldExtract(a, 8, 8) * bitfieldExtract(b, 8, 8)
    + bitfieldExtract(a, 16, 8) * bitfieldExtract(b, 16, 8) + (a >> 24) * (b >> 24);
}
"""
_TILE = """
layout(constant_id = 0) const int TM = 2;
layout(constant_id = 1) const int TN = 4;
layout(constant_id = 2) const int BK = 2;
const int M = @M@, N = @N@, KW = @KW@; // rows, columns, words of four codes along K
const int BM = @SIDE@ * TM, BN = @SIDE@ * TN;
shared ivec4 rows[@SIDE@ * TM * (BK + 1)]; // one more than is used: neighbours lie in other banks
shared ivec4 columns[@SIDE@ * TN * (BK + 1)];
shared int sums[@SIDE@ * @SIDE@ * TM * TN];

int x_word(int m, int k) { return k < KW ? int(@X@) : 0; }
int w_word(int n, int k) { return k < KW ? int(@W@) : 0; }
int dot16(ivec4 a, ivec4 b) { return dot4(a.x, b.x) + dot4(a.y, b.y) + dot4(a.z, b.z) + dot4(a.w, b.w); }
"""
_MAIN = """
void main() {
  int lane = int(gl_LocalInvocationID.x), right = lane % @SIDE@, down = lane / @SIDE@;
  @GROUP@
  int across = (N + BN - 1) / BN, m0 = group / across * BM, n0 = group % across * BN;
  int sum[TM * TN];
  for (int i = 0; i < TM * TN; i++) sum[i] = 0;
  for (int k0 = 0; k0 < (KW + 3) / 4; k0 += BK) {
    barrier();
    for (int i = lane; i < BM * BK; i += @LANES@) {
      int m = min(m0 + i / BK, M - 1), k = 4 * (k0 + i % BK);
      rows[i / BK * (BK + 1) + i % BK] = ivec4(x_word(m, k), x_word(m, k + 1), x_word(m, k + 2), x_word(m, k + 3));
    }
    for (int i = lane; i < BN * BK; i += @LANES@) {
      int n = min(n0 + i % BN, N - 1), k = 4 * (k0 + i / BN);
      columns[i % BN * (BK + 1) + i / BN] =
        ivec4(w_word(n, k), w_word(n, k + 1), w_word(n, k + 2), w_word(n, k + 3));
    }
    barrier();
    for (int q = 0; q < BK; q++) {
      ivec4 row[TM];
      for (int i = 0; i < TM; i++) row[i] = rows[(down * TM + i) * (BK + 1) + q];
      for (int j = 0; j < TN; j++) {
        ivec4 column = columns[(right * TN + j) * (BK + 1) + q];
        for (int i = 0; i < TM; i++) sum[i * TN + j] += dot16(row[i], column);
      }
    }
  }
  for (int i = 0; i < TM * TN; i++) sums[lane * TM * TN + i] = sum[i]; // to be read in a loop that is not unrolled
"""


def print_product(
    product: VulkanProduct, function: PrimFunc, arguments: tuple[ArgumentPlace, ...], device: VulkanDevice, dot: bool
) -> Printed:
    """GLSL of a product with the epilogue of the unscheduled TIR ``function``; raises CannotPrint.

    ``dot``: with the instruction.
    """
    x, w, result = arguments[0], arguments[1], arguments[-1]
    words = product.k // 4
    tm, tn, bk = TILES[device.vendor]
    block = product.layout.columns
    writer = Writer(depth=1)
    _epilogue(writer, function, arguments, result)
    parts = {
        **{"M": product.m, "N": product.n, "KW": words, "SIDE": SIDE, "LANES": SIDE * SIDE, "GROUP": GROUP_NUMBER},
        "X": x.word("m * KW + k"),
        "W": w.word(f"(n / {block} * KW + k) * {block} + n % {block}"),
    }
    tile, main = _TILE, _MAIN
    for name, value in parts.items():
        tile, main = (text.replace(f"@{name}@", str(value)) for text in (tile, main))
    text = "".join(
        [
            *(head(arguments, SIDE * SIDE), definitions(frozenset(writer.called))),
            *(_DOT_INSTRUCTION if dot else _DOT_PLAIN, tile, main),
            *(line + "\n" for line in writer.lines),
            "}\n",
        ]
    )
    tiles = math.ceil(product.m / (SIDE * tm)) * math.ceil(product.n / (SIDE * tn))
    shared = 16 * SIDE * (tm + tn) * (bk + 1) + 4 * SIDE * SIDE * tm * tn
    return Printed(text, SIDE * SIDE, tiles, shared, (tm, tn, bk))


def _epilogue(writer: Writer, function: PrimFunc, arguments: tuple[ArgumentPlace, ...], result: ArgumentPlace) -> None:
    """What becomes of the sums of an invocation, and where it goes: elements or whole words along a row."""
    step, epilogue = result.per_word, epilogue_of(function)
    to = epilogue.printer(writer, function, arguments, ("m", "n"))
    with writer.block("for (int i = 0; i < TM; i++) {"), writer.block(f"for (int j = 0; j < TN; j += {step}) {{"):
        writer.line("int m = m0 + down * TM + i, first = n0 + right * TN + j;")
        writer.line("if (m >= M || first >= N) continue;")
        writer.line("uint word = 0u;")
        with writer.block(f"for (int e = 0; e < {step}; e++) {{"):
            writer.line("int n = first + e, total = sums[(lane * TM + i) * TN + j + e];")
            value = to.value(epilogue.value)
            writer.line(f"word |= {result.bits(value)} << uint(e * {32 // step % 32});")
        place = "m * N + first" if step == 1 else f"(m * N + first) / {step}"
        writer.line(f"{result.word(place)} = word;")
