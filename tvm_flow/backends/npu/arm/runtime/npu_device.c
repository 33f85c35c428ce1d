#include "npu_device.h"

#include <stdlib.h>

/* Of the emulation layer, where a build for a machine without an NPU brings it. */
#ifndef NPU_LAYERS
#define NPU_LAYERS NULL
#endif

static const char *const extensions[] = {"VK_ARM_tensors", "VK_ARM_data_graph"};

static const char *first_of(const char *own, const char *variable, const char *otherwise) {
  if (own) return own;
  const char *given = getenv(variable);
  return given ? given : otherwise;
}

/* What is asked for, after which the device has it switched on. */
static void want(npu_device *device) {
  device->graphs =
      (VkPhysicalDeviceDataGraphFeaturesARM){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DATA_GRAPH_FEATURES_ARM};
  device->tensors = (VkPhysicalDeviceTensorFeaturesARM){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TENSOR_FEATURES_ARM,
                                                        .pNext = &device->graphs};
  device->wants = (vf_wants){.extensions = extensions,
                             .num_extensions = sizeof extensions / sizeof *extensions,
                             .features = &device->tensors,
                             .queue = VK_QUEUE_DATA_GRAPH_BIT_ARM,
                             .link = npu_layers_link,
                             .user = &device->layers};
}

static tvm_flow_status open_all(npu_device *device, const tvm_flow_device_open_info *info, const vf_options *options,
                                tvm_flow_error *error) {
#define NAME(result, name, parameters) #name "\0"
  static const char names[] = NPU_FUNCTIONS(NAME);
  vf_device *base = &device->base;
  tvm_flow_status s = vf_open(base, info, options, error);
  if (!s && (!device->tensors.tensors || !device->graphs.dataGraph))
    s = vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device with the features tensors and dataGraph, got %.100s "
                "without; update its driver, or choose another device", base->facts.properties.deviceName);
  base->facts.host_alignment = 0; /* a tensor cannot lie in memory of the host's that was made for buffers */
  return s ? s : vf_load(&device->f, names, vf_of(base)->vkGetDeviceProcAddr, base->device, error);
}

tvm_flow_status npu_open(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error) {
  tvm_flow_npu_arm own = {.device = NULL};
  vf_given_options(info, &own, sizeof own);
  npu_device *device = vf_take_device(info, sizeof *device, error);
  if (!device) return TVM_FLOW_NO_MEMORY;
  want(device);
  device->layers.paths = first_of(own.layers, "TVM_FLOW_NPU_LAYERS", NPU_LAYERS);
  const vf_options options = {.device = first_of(own.device, "TVM_FLOW_NPU_DEVICE", NULL),
                              .cache = first_of(own.cache, "TVM_FLOW_NPU_CACHE", NULL),
                              .loader = own.loader,
                              .wants = &device->wants};
  tvm_flow_status s = open_all(device, info, &options, error);
  if (s) npu_close(device);
  else *out = device;
  return s;
}

void npu_close(void *opened) {
  npu_device *device = opened;
  npu_layers layers = device->layers; /* vf_close frees the room, and the layers have to be there until then */
  vf_close(&device->base);
  npu_layers_close(&layers);
}
