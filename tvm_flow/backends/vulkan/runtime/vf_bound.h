/* A library's calls on the device: their buffers bound, their commands recorded. */
#ifndef TVM_FLOW_VF_BOUND_H
#define TVM_FLOW_VF_BOUND_H

#include "vf_pipelines.h"
#include "vf_plan.h"

typedef struct {
  vf_plan plan;
  vf_payload payload;
  vf_pipelines pipelines;
  vf_buffer scratch;
  VkDescriptorPool pool;
  uint32_t num_sets;     /* of a branch */
  uint32_t *first_set;   /* [num_calls]: that of a call's first dispatch */
  VkDescriptorSet *sets; /* [branches][num_sets] */
} vf_bound;

/* Where an argument lies. */
typedef struct {
  VkBuffer buffer;
  uint64_t begin, end;
  uint32_t access;
} vf_range;

/* A dispatch of a call for a branch: what its bindings cover, and where its args begin in them. */
typedef struct {
  vf_range args[VF_MOST_ARGS];
  vf_range bindings[VF_MOST_ARGS]; /* without a buffer: not one of its own */
  uint32_t at[VF_MOST_ARGS];
} vf_placed;

const vf_dispatch *vf_first_dispatch(const vf_bound *bound, uint32_t call, uint32_t *count);

/* BAD_LIBRARY where args of a binding lie in several buffers, NO_DEVICE where a binding is longer than may be. */
tvm_flow_status vf_place(const vf_bound *bound, uint32_t call, const vf_dispatch *dispatch, uint32_t branch,
                         vf_placed *out, tvm_flow_error *error);

tvm_flow_status vf_bind(void *device, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error);
void vf_unbind(void *bound);

/* Descriptor sets of every call. */
tvm_flow_status vf_make_sets(vf_bound *bound, tvm_flow_error *error);

/* A vf_recorder; `plan` is a vf_bound. */
tvm_flow_status vf_record(const vf_plan *plan, const tvm_flow_device_run *what, VkCommandBuffer commands,
                          tvm_flow_error *error);

#endif
