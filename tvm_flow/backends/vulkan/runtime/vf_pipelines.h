/* The pipelines of a payload, compiled by the driver. */
#ifndef TVM_FLOW_VF_PIPELINES_H
#define TVM_FLOW_VF_PIPELINES_H

#include "vf_device.h"
#include "vf_payload.h"

typedef struct {
  VkDescriptorSetLayout set;
  VkPipelineLayout layout;
  VkPipeline pipeline;
} vf_compiled;

typedef struct {
  uint32_t *taken;       /* [num_pipelines]: the row itself, or its fallback */
  vf_compiled *compiled; /* [num_pipelines]; those that no row takes are empty */
} vf_pipelines;

/* Whether the device can run what `payload` needs; chooses the fallbacks. Nothing of the device is taken, but for a
 * self-test of its integer dot products at the first time that they would be used. NO_DEVICE names what it lacks. */
tvm_flow_status vf_pipelines_choose(vf_device *device, const vf_payload *payload, vf_pipelines *out,
                                    tvm_flow_error *error);

/* Compiles what was chosen. vf_pipelines_free frees all after a failure too. */
tvm_flow_status vf_pipelines_make(vf_device *device, const vf_payload *payload, vf_pipelines *out,
                                  tvm_flow_error *error);
void vf_pipelines_free(vf_device *device, const vf_payload *payload, vf_pipelines *pipelines);

/* One pipeline of words of SPIR-V; `row` has its sizes and constants. */
tvm_flow_status vf_compile(vf_device *device, const uint32_t *code, uint32_t words, const vf_pipeline *row,
                           const vf_constant *constants, vf_compiled *out, tvm_flow_error *error);
void vf_compiled_free(vf_device *device, vf_compiled *compiled);

#endif
