// out = x * w + s on COUNT 32-bit integers: x and out in the arena, w in the weights, s in the step's block.
#version 450
layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint COUNT = 1;
layout(push_constant) uniform Places { uint at[4]; };
layout(std430, set = 0, binding = 0) buffer Arena { uint arena[]; };
layout(std430, set = 0, binding = 1) readonly buffer Weights { uint weights[]; };
layout(std430, set = 0, binding = 2) readonly buffer Step { uint steps[]; };

void main() {
  uint i = gl_GlobalInvocationID.x;
  if (i < COUNT) arena[at[3] + i] = arena[at[0] + i] * weights[at[1] + i] + steps[at[2]];
}
