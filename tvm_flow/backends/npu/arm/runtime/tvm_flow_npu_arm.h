/* Arm's neural accelerators by Vulkan: a device that runs the graphs of a bundle where a driver has VK_ARM_tensors and
 * VK_ARM_data_graph, or where layers emulate them.
 *
 *   tvm_flow_npu_arm own = {.type = tvm_flow_device_npu_arm, .layers = "/opt/libVkLayer_Graph.so:/opt/..."};
 *   own.type.struct_bytes = sizeof own;
 *   const tvm_flow_device_type *const devices[] = {&own.type};
 *
 * Nothing of the process changes: layers are this device's own, and a Vulkan device beside it does not see them.
 */
#ifndef TVM_FLOW_NPU_ARM_H
#define TVM_FLOW_NPU_ARM_H

#include "tvm_flow_device.h"

#ifdef __cplusplus
extern "C" {
#endif

TVM_FLOW_API extern const tvm_flow_device_type tvm_flow_device_npu_arm;

/* Members that are NULL or 0 are those of the environment, where a name is given. */
typedef struct {
  tvm_flow_device_type type;
  /* Number, UUID or part of a name, of Vulkan's devices. TVM_FLOW_NPU_DEVICE; else the first with both extensions. */
  const char *device;
  /* Folder for compiled graphs, as tvm_flow_vulkan has it. TVM_FLOW_NPU_CACHE; else nothing is kept. */
  const char *cache;
  const char *loader; /* TVM_FLOW_VULKAN_LOADER; else libvulkan.so.1 */
  /* Absolute paths of layers' libraries, with colons, the topmost first. TVM_FLOW_NPU_LAYERS. */
  const char *layers;
} tvm_flow_npu_arm;

#ifdef __cplusplus
}
#endif
#endif
