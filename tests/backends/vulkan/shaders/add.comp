// out = x + y: every tensor at a binding of its own, so that each may lie in any space. With WIDE 64-bit integers.
#version 450
#ifdef WIDE
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#endif
layout(local_size_x = 8) in;
layout(push_constant) uniform Places { uint at[3]; };
layout(std430, set = 0, binding = 0) readonly buffer X { uint x[]; };
layout(std430, set = 0, binding = 1) readonly buffer Y { uint y[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Out { uint sums[]; };

void main() {
  uint i = gl_GlobalInvocationID.x;
#ifdef WIDE
  sums[at[2] + i] = uint(uint64_t(x[at[0] + i]) + y[at[1] + i]);
#else
  sums[at[2] + i] = x[at[0] + i] + y[at[1] + i];
#endif
}
