/* A decoder without TVM: latents [4, chunk, 2, 2] to frames [2 chunk, 2, 2, 3].
 *
 *   frame[2 t + k][y][x][colour] = latent[colour][t][y][x] * weights[colour] + k * latent[3][t][y][x]
 */
#include "tvm_abi.h"
#include "tvm_flow_library.h"

#ifndef TOY_CHUNK
#define TOY_CHUNK 2
#endif
#ifndef TOY_INPUTS
#define TOY_INPUTS 1
#endif
#ifndef TOY_FRAMES
#define TOY_FRAMES (2 * TOY_CHUNK)
#endif
#ifndef TOY_PROMPT
#define TOY_PROMPT 0
#endif
#ifndef TOY_FAIL
#define TOY_FAIL 0
#endif

static int toy_decode(void *self, const void *packed, int32_t num_args, void *result) {
  const flow_any *args = packed;
  const float *latents = ((flow_dltensor *)args[0].v_ptr)->data, *weights = ((flow_dltensor *)args[1].v_ptr)->data;
  float *frames = ((flow_dltensor *)args[2].v_ptr)->data;
  (void)self, (void)num_args, (void)result;
  if (TOY_FAIL) return -1;
  for (int frame = 0; frame < TOY_FRAMES; frame++)
    for (int place = 0; place < 4; place++)
      for (int colour = 0; colour < 3; colour++) {
        int t = frame / 2, k = frame % 2;
        float pixel = latents[(colour * TOY_CHUNK + t) * 4 + place] * weights[colour];
        frames[(frame * 4 + place) * 3 + colour] = pixel + (float)k * latents[(3 * TOY_CHUNK + t) * 4 + place];
      }
  return 0;
}

static const tvm_flow_tensor tensors[] = {
    {TVM_FLOW_ARENA, 2, 32, 4, 0, 0, {4, TOY_CHUNK, 2, 2}},
    {TVM_FLOW_WEIGHTS, 2, 32, 1, 0, 0, {3}},
    {TVM_FLOW_ARENA, 2, 32, 4, 0, 1024, {TOY_FRAMES, 2, 2, 3}},
};
static const tvm_flow_kernel kernels[] = {toy_decode};
static const char *const names[] = {"toy_decode"};
static const tvm_flow_call calls[] = {{0, 0, 3}};
static const uint32_t args[] = {0, 1, 2}, inputs[] = {0, 0, 0};

static const tvm_flow_services *enter(const tvm_flow_services *services) { return services; }

__attribute__((visibility("default"))) const tvm_flow_library_descriptor tvm_flow_library = {
    .abi = TVM_FLOW_ABI,
    .struct_bytes = sizeof(tvm_flow_library_descriptor),
    .target = "toy",
    .cpu_features = "",
    .arena_bytes = 4096,
    .prompt_bytes = TOY_PROMPT,
    .weights_bytes = 12,
    .num_tensors = 3,
    .num_kernels = 1,
    .num_calls = 1,
    .num_args = 3,
    .num_inputs = TOY_INPUTS,
    .tensors = tensors,
    .kernels = kernels,
    .kernel_names = names,
    .calls = calls,
    .args = args,
    .inputs = inputs,
    .output = 2,
    .enter = enter,
};
