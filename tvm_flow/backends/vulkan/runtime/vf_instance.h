/* libvulkan, its functions, and the devices that it knows. */
#ifndef TVM_FLOW_VF_INSTANCE_H
#define TVM_FLOW_VF_INSTANCE_H

#include "vf_features.h"

typedef struct {
  void *library;
  vf_functions f;
  PFN_vkVoidFunction (*find)(VkInstance instance, const char *name);
  VkInstance instance;
} vf_instance;

enum { VF_MOST_DEVICES = 16 };

/* For a zeroed instance; vf_instance_close frees it after a failure too. NO_DEVICE without libvulkan or a driver. */
tvm_flow_status vf_instance_open(vf_instance *vulkan, const char *loader, tvm_flow_error *error);
void vf_instance_close(vf_instance *vulkan);

/* The functions of `device`, once it was made. */
tvm_flow_status vf_load_device(vf_instance *vulkan, VkDevice device, tvm_flow_error *error);

/* *count devices; NO_DEVICE where there is none. */
tvm_flow_status vf_devices(const vf_instance *vulkan, VkPhysicalDevice out[VF_MOST_DEVICES], uint32_t *count,
                           tvm_flow_error *error);

/* The one that `wanted` names, as tvm_flow_vulkan says; NULL or "": the first that is no program on the CPU. */
tvm_flow_status vf_choose(const vf_instance *vulkan, const char *wanted, VkExtensionProperties *room,
                          VkPhysicalDevice *out, tvm_flow_error *error);

#endif
