/* The handle. */
#ifndef TVM_FLOW_FLOW_H
#define TVM_FLOW_FLOW_H

#include "function.h"

#define FLOW_NO_GROUP UINT32_MAX

struct tvm_flow {
  flow_function function;
  flow_index index;
  uint32_t prompt_group[2]; /* whose prologue filled PROMPT of a branch for the prompt at hand; FLOW_NO_GROUP: none */
  float *z;
  float *prediction[2]; /* of each branch, [output_floats] */
  float *fresh;         /* noise of a step; NULL when no step draws any */
};

/* One step graph on the handle's own arrays; step and branch are in range. Where prompt_group says that the prologue
 * has run, `prompt` is the one that it ran for. */
tvm_flow_status flow_step(tvm_flow *flow, uint32_t step, uint32_t branch, const float *z, const tvm_flow_prompt *prompt,
                          float *prediction, tvm_flow_error *error);

/* Denoises `request` for the first `steps` steps; otherwise tvm_flow_generate. */
tvm_flow_status flow_denoise(tvm_flow *flow, const tvm_flow_request *request, uint32_t steps, float *latents,
                             tvm_flow_progress progress, void *user, tvm_flow_error *error);

#endif
