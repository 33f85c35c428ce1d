/* libvulkan, its functions, and the devices that it knows. */
#ifndef TVM_FLOW_VF_INSTANCE_H
#define TVM_FLOW_VF_INSTANCE_H

#include "vf_features.h"

typedef struct vf_instance {
  void *library;
  vf_functions f;
  PFN_vkVoidFunction (*find)(VkInstance instance, const char *name);
  VkInstance instance;
  /* Of layers that are linked in by hand (vf_wants): the topmost's functions of a device, what making the instance and
   * the device starts with, and where the device's own structures follow it. NULL without layers. */
  PFN_vkVoidFunction (*find_device)(VkDevice device, const char *name);
  const void *instance_link;
  const void *device_link;
  const void **device_link_next;
} vf_instance;

enum { VF_MOST_DEVICES = 16 };

/* For a zeroed instance; vf_instance_close frees it after a failure too. NO_DEVICE without libvulkan or a driver. */
tvm_flow_status vf_instance_open(vf_instance *vulkan, const char *loader, const vf_wants *wants,
                                 tvm_flow_error *error);
void vf_instance_close(vf_instance *vulkan);

/* Pointers to functions at `out`, one after the other, of `names`, each with its 0; NO_DEVICE names one that is
 * missing. */
tvm_flow_status vf_load(void *out, const char *names,
                        PFN_vkVoidFunction (*find)(struct vk_handle_s *of, const char *name), struct vk_handle_s *of,
                        tvm_flow_error *error);

/* The functions of `device`, once it was made. */
tvm_flow_status vf_load_device(vf_instance *vulkan, VkDevice device, tvm_flow_error *error);

/* *count devices; NO_DEVICE where there is none. */
tvm_flow_status vf_devices(const vf_instance *vulkan, VkPhysicalDevice out[VF_MOST_DEVICES], uint32_t *count,
                           tvm_flow_error *error);

/* The one that `wanted` names, as tvm_flow_vulkan says; NULL or "": of those that lack nothing of `wants` the first
 * that is no program on the CPU, or the first. */
tvm_flow_status vf_choose(const vf_instance *vulkan, const char *wanted, const vf_wants *wants,
                          VkExtensionProperties *room, VkPhysicalDevice *out, tvm_flow_error *error);

#endif
