"""Vulkan: kernels as compute shaders, and the device of the runtime that runs them.

kernel --schedule--> TIR with its loops bound to workgroups and invocations        schedules.py
int8 products, tiled through shared memory with their epilogues                    product.py, epilogue.py
float products and convolutions, the same way                        float_product.py
attention in one pass over the keys                                  attention.py, attention_shader.py
TIR    --lower-->    flat buffers, barriers                                        lowering.py
TIR    --print-->    GLSL                                 printer.py, expressions.py, places.py, arithmetic.py
GLSL   --glslang-->  SPIR-V, held to the target's features                         shader.py, the interface
SPIR-V --encode-->   bytes that a library carries                                  payload.py, runtime/payload.h
calls  --run-->      the device in C                                               runtime/

backend.py says what it offers, and makes the artifacts.
"""
