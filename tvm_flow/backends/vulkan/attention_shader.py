"""Streaming attention as GLSL; `tvm_flow.backends.vulkan.attention` says what it computes.

A row's channels lie in shared memory as vec4. Each invocation makes the scores of RM rows with every `SIDE`-th key of a
tile, and of these rows every `SIDE`-th vec4 of the output; values take the place of keys once the scores are there.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx

from tvm_flow.backends.vulkan.arithmetic import definitions
from tvm_flow.backends.vulkan.attention import SIDE, Attention
from tvm_flow.backends.vulkan.epilogue import epilogue_of
from tvm_flow.backends.vulkan.expressions import Expressions, Writer, literal
from tvm_flow.backends.vulkan.places import ArgumentPlace
from tvm_flow.backends.vulkan.printer import GROUP_NUMBER, Printed, head
from tvm_flow.lower.exponential import exp_expression
from tvm_flow.lower.legalize import to_prim_func

LEAST = literal("float32", float(np.finfo(np.float32).min))

_HEAD = """
layout(constant_id = 0) const int RM = 2;
layout(constant_id = 1) const int KN = 4;
const int M = @M@, S = @S@, D = @D@, Q = (D + 3) / 4, LINE = @LINE@; // Q: vec4 of a row's channels
const int BM = @SIDE@ * RM, BN = @SIDE@ * KN, OWN = (Q + @SIDE@ - 1) / @SIDE@; // OWN: those of an invocation
shared vec4 rows[BM * LINE]; // of Q, and of the output in the end
shared vec4 lines[BN * LINE]; // keys, then values
shared float weights[BM * BN];
shared float parts[BM * @SIDE@];

float q_of(int head, int m, int d) { float q = @Q@; return @D_FITS@ ? q : 0.0; }
float k_of(int head, int n, int d) { float k = @K@; return @D_FITS@ ? k : 0.0; }
float v_of(int head, int n, int d) { float v = @V@; return n < S ? v : 0.0; }
"""
_MAIN = """
void main() {
  int lane = int(gl_LocalInvocationID.x), right = lane % @SIDE@, down = lane / @SIDE@;
  @GROUP@
  int blocks = (M + BM - 1) / BM, head = group / blocks, m0 = group % blocks * BM;
  if (head >= @HEADS@) return;
  for (int i = lane; i < BM * Q; i += @LANES@) {
    int m = m0 + i / Q, d = 4 * (i % Q);
    rows[i / Q * LINE + i % Q] =
      vec4(q_of(head, m, d), q_of(head, m, d + 1), q_of(head, m, d + 2), q_of(head, m, d + 3));
  }
  float peak[RM], total[RM], score[RM * KN];
  vec4 made[RM * OWN];
  for (int r = 0; r < RM; r++) { peak[r] = @LEAST@; total[r] = 0.0; }
  for (int i = 0; i < RM * OWN; i++) made[i] = vec4(0.0);
  for (int n0 = 0; n0 < S; n0 += BN) {
    barrier();
    for (int i = lane; i < BN * Q; i += @LANES@) {
      int n = n0 + i % BN, d = 4 * (i / BN);
      lines[i % BN * LINE + i / BN] =
        vec4(k_of(head, n, d), k_of(head, n, d + 1), k_of(head, n, d + 2), k_of(head, n, d + 3));
    }
    barrier();
    for (int i = 0; i < RM * KN; i++) score[i] = 0.0;
    for (int c = 0; c < Q; c++) {
      vec4 row[RM];
      for (int r = 0; r < RM; r++) row[r] = rows[(down * RM + r) * LINE + c];
      for (int j = 0; j < KN; j++) {
        vec4 key = lines[(right + @SIDE@ * j) * LINE + c];
        for (int r = 0; r < RM; r++) {
          vec4 each = row[r] * key;
          score[r * KN + j] += each.x + each.y + each.z + each.w;
        }
      }
    }
    for (int r = 0; r < RM; r++) {
      int m = min(m0 + down * RM + r, M - 1);
      float largest = @LEAST@;
      for (int j = 0; j < KN; j++) {
        int n = n0 + right + @SIDE@ * j;
        if (n < S) {
          score[r * KN + j] = score_of(head, m, n, score[r * KN + j]);
          largest = score[r * KN + j] > largest ? score[r * KN + j] : largest;
        }
      }
      parts[(down * RM + r) * @SIDE@ + right] = largest;
    }
    barrier();
    for (int r = 0; r < RM; r++) {
      int row = down * RM + r;
      float higher = peak[r];
      for (int i = 0; i < @SIDE@; i++) higher = parts[row * @SIDE@ + i] > higher ? parts[row * @SIDE@ + i] : higher;
      float less = exponential(peak[r] - higher);
      peak[r] = higher;
      total[r] *= less;
      for (int i = 0; i < OWN; i++) made[r * OWN + i] *= less;
      for (int j = 0; j < KN; j++) {
        float weight = n0 + right + @SIDE@ * j < S ? exponential(score[r * KN + j] - higher) : 0.0;
        total[r] += weight;
        weights[row * BN + right + @SIDE@ * j] = weight;
      }
    }
    for (int i = lane; i < BN * Q; i += @LANES@) {
      int n = n0 + i / Q, d = 4 * (i % Q);
      lines[i / Q * LINE + i % Q] =
        vec4(v_of(head, n, d), v_of(head, n, d + 1), v_of(head, n, d + 2), v_of(head, n, d + 3));
    }
    barrier();
    for (int n = 0; n < BN; n++) {
      vec4 value[OWN];
      for (int i = 0; i < OWN; i++) value[i] = lines[n * LINE + min(right + @SIDE@ * i, Q - 1)];
      for (int r = 0; r < RM; r++) {
        float weight = weights[(down * RM + r) * BN + n];
        for (int i = 0; i < OWN; i++) made[r * OWN + i] += weight * value[i];
      }
    }
  }
  barrier();
  for (int r = 0; r < RM; r++) {
    int row = down * RM + r;
    parts[row * @SIDE@ + right] = total[r];
    for (int i = 0; i < OWN; i++) if (right + @SIDE@ * i < Q) rows[row * LINE + right + @SIDE@ * i] = made[r * OWN + i];
  }
  barrier();
  for (int i = lane; i < BM * D && m0 + i / D < M; i += @LANES@) {
    int row = i / D, d = i % D;
    float all = 0.0;
    for (int j = 0; j < @SIDE@; j++) all += parts[row * @SIDE@ + j];
    float result = divide(rows[row * LINE + d / 4][d % 4], all);
    @RESULT@ = floatBitsToUint(result);
  }
}
"""


def print_attention(attention: Attention, arguments: tuple[ArgumentPlace, ...]) -> Printed:
    """GLSL of ``attention``; raises CannotPrint."""
    q, k, v = (arguments[position] for position in attention.arguments)
    rm, _ = attention.tile
    heads = math.prod(attention.batch)
    score, called = _score(attention, arguments)
    whole = attention.channels % 4 == 0
    d = "d" if whole else "min(d, D - 1)"
    parts = {
        **{"M": attention.rows, "S": attention.keys, "D": attention.channels, "LINE": attention.line},
        **{"SIDE": SIDE, "LANES": SIDE * SIDE, "GROUP": GROUP_NUMBER, "HEADS": heads, "LEAST": LEAST},
        "Q": q.load(f"(head * M + min(m, M - 1)) * D + {d}"),
        "K": k.load(f"(head * D + {d}) * S + min(n, S - 1)"),
        "V": v.load(f"(head * S + min(n, S - 1)) * D + {d}"),
        "D_FITS": "true" if whole else "d < D",
        "RESULT": arguments[-1].word("(head * M + m0) * D + i"),
    }
    template, main = _HEAD, _MAIN
    for name, value in parts.items():
        template, main = (text.replace(f"@{name}@", str(value)) for text in (template, main))
    needed = definitions(frozenset({"divide"} | called))
    text = head(arguments, SIDE * SIDE) + needed + template + _exponential() + score + main
    groups = heads * math.ceil(attention.rows / (SIDE * rm))
    return Printed(text, SIDE * SIDE, groups, attention.shared_bytes, attention.tile)


def _exponential() -> str:
    """`tvm_flow.lower.exponential` as a function."""
    writer, x = Writer(), tirx.Var("x", "float32")
    to = Expressions(writer, names={x: "x"})
    writer.line(f"return {to.value(exp_expression(x))};")
    return "\n".join(["float exponential(float x) {", *writer.lines, "}\n"])


def _score(attention: Attention, arguments: tuple[ArgumentPlace, ...]) -> tuple[str, set[str]]:
    """The function that makes a score of a product's sum, and the names of those that it calls."""
    function = to_prim_func(attention.scores, "scores")
    places = (*(arguments[position] for position in attention.read), arguments[-1])
    writer, epilogue = Writer(), epilogue_of(function)
    axes, below = [], math.prod(attention.batch)
    for number, extent in enumerate(attention.batch):
        below //= extent
        writer.line(f"int b{number} = head / {below} % {extent};")
        axes.append(f"b{number}")
    to = epilogue.printer(writer, function, places, (*axes, "m", "n"))
    writer.line(f"return {to.value(epilogue.value)};")
    return "\n".join(["float score_of(int head, int m, int n, float total) {", *writer.lines, "}\n"]), writer.called
