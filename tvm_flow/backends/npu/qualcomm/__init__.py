"""Qualcomm's HTP: the linears of codes that kernels start with as QDQ graphs, and context binaries of them for one SoC.

    qdq.py        a linear, with GELU and codes where they follow it, as QDQ ONNX
    rounding.py   what it should compute, to which the device is held within 1
    `tvm_flow.toolchain.qualcomm` compiles, and runs what was compiled in Qualcomm's own emulator

The extra ``npu-qualcomm`` is never installed by default: onnxruntime-qnn's provider is MIT, the QNN libraries in its
wheel are proprietary, and whoever installs it accepts Qualcomm's licence.

What the compiler takes and what its emulator computes, found by experiment (2026-11-26; onnxruntime-qnn 2.7.0, QNN
2.51, onnxruntime 1.32, x86-64; 64x128x256, 16 384 results, differences to the exact result rounded):

| int8 weights by channel, input of | result | v68 | v73, v75, v79, v81 |
|---|---|---|---|
| int8 codes | int8 | at most 1, 353 differ | the same |
| int8 codes | int16 | refused: no such FullyConnected | refused |
| codes as int16 with the input's scale | int16 in `UNIT` | up to 36 | up to 26: low bits of the sums are lost |
| codes times 256 as int16, scale over 256 | int16 in `UNIT` | up to 17 | at most 1, 149 differ |
| int16 | int8 | refused; int16, and a Convert after it | refused |

So a code goes into the upper byte of 16 bits, which is exact, and the result has 16 bits as on Ethos-U. v68 is not
offered. What is lost then: with r the units of the sums (input's scale times the weights') in one of the result, the
largest distance to the exact result, not rounded, was (48x32 results each of normal and of uniform codes, v75)

| K    | r = 1/4 | 1    | 2    | 4    |
|------|---------|------|------|------|
| 96   | 0.72    | 1.47 | 2.40 | 4.35 |
| 384  | 0.75    | 1.44 | 2.46 | 4.39 |
| 1152 | 0.73    | 1.46 | 2.43 | 4.37 |
| 4608 | 0.73    | 1.46 | 2.44 | 4.23 |

so below 1/2 + r: half a unit of the result for its rounding, and one unit of the sums, at any depth. `HtpLinear.unit`
has r at most 1. GELU of int16 is within its rounding; a product with an int8 result would be computed in float, so that
the gain of smoothing hands on 16 bits, of which the codes are the upper byte. Scales are baked in: they are attributes
of tensors and no data, so a step or a cluster of steps has blobs of its own, as on Ethos-U.
"""
