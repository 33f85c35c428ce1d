/* An opened device: a Vulkan device with tensors and data graphs. */
#ifndef TVM_FLOW_NPU_DEVICE_H
#define TVM_FLOW_NPU_DEVICE_H

#include "npu_layers.h"
#include "tvm_flow_npu_arm.h"
#include "vf_device.h"
#include "vk_arm_functions.h"

typedef struct {
  vf_device base;
  npu_functions f;
  npu_layers layers;
  vf_wants wants;
  VkPhysicalDeviceTensorFeaturesARM tensors;
  VkPhysicalDeviceDataGraphFeaturesARM graphs;
} npu_device;

tvm_flow_status npu_open(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error);
void npu_close(void *device);

#endif
