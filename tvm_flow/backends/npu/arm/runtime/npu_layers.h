/* Vulkan's layers for one instance alone, without the loader's variables and manifests.
 *
 * The loader of Debian 12 (1.3.239) finds layers by VK_LAYER_PATH and puts those of VK_INSTANCE_LAYERS in the order of
 * its folders, for every instance of the process: the Vulkan device beside this one would get them too. So the layers
 * are opened here and told what comes next, as a loader would: the first lies on the second, the last on libvulkan.
 */
#ifndef TVM_FLOW_NPU_LAYERS_H
#define TVM_FLOW_NPU_LAYERS_H

#include "vf_instance.h"
#include "vk_arm.h"

enum { NPU_MOST_LAYERS = 4 };

typedef struct {
  const char *paths; /* of libraries, with colons, the topmost first; NULL or "": none */
  void *libraries[NPU_MOST_LAYERS];
  uint32_t count;
  VkLayerInstanceLink instance_links[NPU_MOST_LAYERS];
  VkLayerDeviceLink device_links[NPU_MOST_LAYERS];
  VkLayerInstanceCreateInfo instance;
  VkLayerDeviceCreateInfo device;
} npu_layers;

/* Opens them for an instance that is to be made; of vf_wants, `layers` is an npu_layers. */
tvm_flow_status npu_layers_link(void *layers, vf_instance *vulkan, tvm_flow_error *error);

/* After the instance has gone. */
void npu_layers_close(npu_layers *layers);

#endif
