// Word i of out is the integer dot product of word i of two rows of bytes; PLAIN computes it byte by byte.
#version 450
#ifndef PLAIN
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int dot4(int a, int b, spirv_literal int packed_4x8);
#endif
layout(local_size_x = 8) in;
layout(push_constant) uniform Places { uint at[3]; };
layout(std430, set = 0, binding = 0) buffer Arena { int arena[]; };

int dot4(int a, int b) {
#ifdef PLAIN
  int sum = 0;
  for (int i = 0; i < 32; i += 8) sum += bitfieldExtract(a, i, 8) * bitfieldExtract(b, i, 8);
  return sum;
#else
  return dot4(a, b, 0);
#endif
}

void main() {
  uint i = gl_GlobalInvocationID.x;
  arena[at[2] + i] = dot4(arena[at[0] + i], arena[at[1] + i]);
}
