// Sums of integer dot products of bytes, for vf_self_test.c; vf_self_test_shader.h holds its words, made by
//   glslangValidator --target-env vulkan1.1 -V -o a.spv self_test.comp && spirv-opt --strip-debug -O a.spv -o b.spv
#version 450
#extension GL_EXT_spirv_intrinsics : require
layout(local_size_x = 13) in;
layout(std430, set = 0, binding = 0) readonly buffer Left { int left[]; };
layout(std430, set = 0, binding = 1) readonly buffer Right { int right[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Sums { int sums[]; };
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6018, 6019], id = 4450)
int dot4(int a, int b, spirv_literal int packed_4x8);

void main() {
  int row = int(gl_GlobalInvocationID.x), sum = 0; // row r: r + 1 words from word 13 r on
  for (int i = 0; i <= row; i++) sum += dot4(left[13 * row + i], right[13 * row + i], 0);
  sums[row] = sum;
}
