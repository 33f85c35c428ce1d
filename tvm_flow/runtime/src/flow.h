/* The handle. */
#ifndef TVM_FLOW_FLOW_H
#define TVM_FLOW_FLOW_H

#include "plan.h"

#define FLOW_NO_GROUP UINT32_MAX

struct tvm_flow {
  char *bundle_dir;
  flow_index index;
  flow_map weights;
  flow_context context;
  flow_plan *plans; /* [groups] */
  uint32_t bound;   /* plans that hold something */
  uint64_t arena_bytes;
  uint8_t *arena; /* shared: one plan runs at a time */
  uint64_t prompt_bytes;
  uint8_t *prompt[2]; /* PROMPT of each branch; groups share it, because it is as large as an arena */
  uint32_t prompt_group[2]; /* whose prologue filled it for the prompt at hand; FLOW_NO_GROUP when none has */
  float *z;
  float *prediction[2]; /* of each branch, [output_floats] */
  float *fresh;         /* noise of a step; NULL when no step draws any */
  tvm_flow_trace trace;
  void *trace_user;
};

/* One step graph on the handle's own arrays; step and branch are in range. Where prompt_group says that the prologue
 * has run, `prompt` is the one that it ran for. */
tvm_flow_status flow_step(tvm_flow *flow, uint32_t step, uint32_t branch, const float *z, const tvm_flow_prompt *prompt,
                          float *prediction, tvm_flow_error *error);

/* Denoises `request` for the first `steps` steps; otherwise tvm_flow_generate. */
tvm_flow_status flow_denoise(tvm_flow *flow, const tvm_flow_request *request, uint32_t steps, float *latents,
                             tvm_flow_progress progress, void *user, tvm_flow_error *error);

/* Checks `given`, which may be NULL; fields past the caller's struct_bytes keep their defaults. */
tvm_flow_status flow_read_options(const tvm_flow_options *given, tvm_flow_options *out, tvm_flow_error *error);

/* The pool that `options` ask for. */
tvm_flow_status flow_create_pool(const tvm_flow_options *options, flow_pool **out, tvm_flow_error *error);

#endif
