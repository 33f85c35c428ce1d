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
cluster of steps whose scales are the same.

    `tvm_flow.numerics.rescale` is the arithmetic: RESCALE, TABLE, and how float scales become multipliers and shifts
    tosa.py       TOSA graphs as MLIR text
"""
