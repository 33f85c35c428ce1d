/* A library's calls of graphs: their tensors in the device's memory, bound and recorded. */
#ifndef TVM_FLOW_NPU_BOUND_H
#define TVM_FLOW_NPU_BOUND_H

#include "npu_graph.h"
#include "vf_plan.h"

/* As tvm_flow/backends/npu/arm/blobs.py writes a segment's payload: one for each call. */
typedef struct {
  const uint8_t *vgf;
  uint64_t vgf_bytes;
} npu_blob;

typedef struct {
  VkTensorARM tensor;
  VkTensorViewARM view;
} npu_tensor;

typedef struct {
  vf_plan plan;
  npu_device *device;
  uint32_t num_graphs;
  npu_graph *graphs;    /* [num_graphs]: one for each kernel that is called */
  uint32_t *graph_of;   /* [num_calls]: its row of graphs, plus one */
  VkDeviceMemory session; /* of all graphs: one runs at a time */
  uint64_t *first;      /* [num_calls]: that of a call's first argument in a branch's row of tensors */
  uint64_t num_tensors; /* of a branch */
  npu_tensor *tensors;  /* [branches][num_tensors] */
  VkDescriptorPool pool;
  VkDescriptorSet *sets; /* [branches][num_calls] */
} npu_bound;

tvm_flow_status npu_bind(void *device, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error);
void npu_unbind(void *bound);

/* Tensors of every call and the sets that name them, when the graphs are made. npu_calls_free frees them after a
 * failure too. */
tvm_flow_status npu_calls_make(npu_bound *bound, tvm_flow_error *error);
void npu_calls_free(npu_bound *bound);

/* A vf_recorder; `plan` is an npu_bound. */
tvm_flow_status npu_record(const vf_plan *plan, const tvm_flow_device_run *what, VkCommandBuffer commands,
                           tvm_flow_error *error);

/* The call's graph. */
static inline npu_graph *npu_graph_of(const npu_bound *bound, uint32_t call) {
  return &bound->graphs[bound->graph_of[call] - 1];
}

#endif
