/* A library's calls on the device: what every kind of call shares. How calls are recorded is their maker's affair. */
#ifndef TVM_FLOW_VF_PLAN_H
#define TVM_FLOW_VF_PLAN_H

#include "vf_memory.h"

struct vf_plan;

/* Records calls [first, first + count) of a segment into commands that were begun. */
typedef tvm_flow_status (*vf_recorder)(const struct vf_plan *plan, const tvm_flow_device_run *what,
                                       VkCommandBuffer commands, tvm_flow_error *error);

/* The first member of a larger structure, zeroed and filled down to `record` before vf_plan_open. */
typedef struct vf_plan {
  vf_device *device;
  const tvm_flow_library_descriptor *library;
  uint32_t row; /* of library->devices */
  vf_recorder record;
  vf_buffer step;
  VkCommandBuffer *recorded; /* [branches][num_segments]; NULL for those of others */
} vf_plan;

/* Memory of activations, prompts, weights and a step; vf_plan_close frees what is the plan's after a failure too. */
tvm_flow_status vf_plan_open(vf_plan *plan, tvm_flow_error *error);
void vf_plan_close(vf_plan *plan);

/* Whether a segment has calls of the plan's. */
int vf_is_ours(const vf_plan *plan, const tvm_flow_segment *segment);

/* The buffer in which a tensor lies for a branch. */
const vf_buffer *vf_place_of(const vf_plan *plan, uint32_t tensor, uint32_t branch, uint64_t *offset);

/* The commands of every segment, for every branch. */
tvm_flow_status vf_record_all(vf_plan *plan, tvm_flow_error *error);

/* Of a device's vtable; `plan` is a vf_plan. */
tvm_flow_status vf_step(void *plan, uint32_t branch, const uint8_t *block, tvm_flow_error *error);
tvm_flow_status vf_write_tensor(void *plan, uint32_t tensor, uint32_t branch, const void *host, tvm_flow_error *error);
tvm_flow_status vf_read_tensor(void *plan, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error);
tvm_flow_status vf_run(void *plan, const tvm_flow_device_run *what, tvm_flow_error *error);

#endif
