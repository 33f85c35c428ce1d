"""Arm: TOSA graphs for Vulkan devices with data graphs (VGF) and for Ethos-U55, U65 and U85.

What the tools take as data, found by experiment (2026-11-26; tosa-tools 2026.8.0, model converter and emulation layer
0.11.0, vela 5.2.0; a linear as CONV2D 1x1 with RESCALE, each constant turned into an input of the graph in turn):

| input of the graph        | reference model | VGF, emulated | Ethos-U85            | Ethos-U55, U65       |
|---------------------------|-----------------|---------------|----------------------|----------------------|
| RESCALE multiplier, shift | exact           | exact         | vela dies (signal 11)| vela dies (signal 11)|
| bias                      | exact           | exact         | compiles, slower     | refused: Conv2D      |
| weights                   | exact           | exact         | compiles, slower     | refused: Conv2D      |

So one VGF serves every step: weights, biases and scales are its inputs and lie in the bundle's weight file and step
tables as those of the CPU do, and a kernel is one blob whatever the number of steps. A command stream of Ethos-U has
its scales baked in, between the encoded weights: it can share nothing, and costs its weights again for every step or
cluster of steps whose scales are the same. Clusters are what a recipe's step groups are, which dynamic programming
chooses from the ranges (`tvm_flow.quantize.grouping`), or those that ``tvm-flow package --clusters N`` chooses from the
export's scales (`tvm_flow.compile.step_clusters`); equal calls then share a stream. The
demo's linears for ethos-u85-512 (vela 5.2, bytes of commands and weights, both branches):

| recipe         | steps | calls | streams | bytes     | were nothing shared |
|----------------|-------|-------|---------|-----------|---------------------|
| static-w8a8    |     1 |    80 |      77 | 2 438 380 |           2 497 104 |
| static-w8a8    |     2 |   160 |     149 | 4 818 324 |           4 994 208 |
| static-w8a8-g1 |    20 |  1600 |      77 | 2 438 380 |          49 942 080 |

So a cluster costs 2.4 MB whatever the number of its steps, of a model whose weights are 1.5 MB: both branches have
scales, and so encoded weights, of their own. Thirty steps with scales of their own would be 30 such; as one group they
are one, as good in simulated latents as a group for each step (-0.1 dB [-0.5, 0.3], 12 pairs; README). With five groups
each layer has its own borders: 372 streams for 20 steps. A VGF shares all but scales: ``scripts/bench npu`` prints its
bytes for 1 and for 30 steps.

    `tvm_flow.numerics.rescale` is the arithmetic: RESCALE, TABLE, and how float scales become multipliers and shifts
    tosa.py       TOSA graphs as MLIR text
"""
