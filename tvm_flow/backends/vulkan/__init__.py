"""Kernels as Vulkan compute shaders.

kernel --schedule--> TIR with its loops bound to workgroups and invocations        schedules.py
TIR    --lower-->    flat buffers, barriers                                        lowering.py
TIR    --print-->    GLSL                                 printer.py, expressions.py, places.py, arithmetic.py
GLSL   --glslang-->  SPIR-V, held to the target's features                         shader.py, the interface
"""
