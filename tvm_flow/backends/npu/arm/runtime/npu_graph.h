/* A kernel's graph, compiled by the driver. */
#ifndef TVM_FLOW_NPU_GRAPH_H
#define TVM_FLOW_NPU_GRAPH_H

#include "npu_device.h"
#include "vgf.h"

typedef struct {
  vgf file;
  vgf_tensor *arguments; /* inputs, then outputs */
  VkDescriptorSetLayout set;
  VkPipelineLayout layout;
  VkPipeline pipeline;
  VkDataGraphPipelineSessionARM session;
} npu_graph;

static inline uint32_t npu_arguments(const npu_graph *graph) {
  return graph->file.num_inputs + graph->file.num_outputs;
}

/* How Vulkan is told of a tensor; it points at `tensor`. */
VkTensorDescriptionARM npu_describe(const vgf_tensor *tensor);

/* For a zeroed graph; npu_graph_free frees it after a failure too. BAD_LIBRARY for what is no VGF. */
tvm_flow_status npu_graph_make(npu_device *device, const uint8_t *data, uint64_t bytes, const char *name,
                               npu_graph *out, tvm_flow_error *error);
void npu_graph_free(npu_device *device, npu_graph *graph);

/* What a session keeps between its operators, from the start of `memory` on; NULL: *bytes and *types, which sorts of
 * memory will do, grow and shrink to what it needs. */
tvm_flow_status npu_graph_memory(const npu_device *device, const npu_graph *graph, VkDeviceMemory memory,
                                 uint64_t *bytes, uint32_t *types, tvm_flow_error *error);

#endif
