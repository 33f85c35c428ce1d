#include "npu_layers.h"

#include <dlfcn.h>
#include <string.h>

static PFN_vkVoidFunction symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  PFN_vkVoidFunction function;
  memcpy(&function, &found, sizeof function);
  return function;
}

/* The next of several paths with colons between them; NULL at the end. */
static const char *next_path(const char *paths, char out[1024], tvm_flow_status *status, tvm_flow_error *error) {
  const size_t length = strcspn(paths, ":");
  if (!length) return NULL;
  if (length >= 1024) {
    *status = vf_fail(error, TVM_FLOW_INVALID_ARGUMENT, "expected paths of layers below 1024 characters; shorten them");
    return NULL;
  }
  memcpy(out, paths, length);
  out[length] = 0;
  return paths + length + (paths[length] == ':');
}

static tvm_flow_status open_layers(npu_layers *layers, tvm_flow_error *error) {
  char path[1024];
  tvm_flow_status s = TVM_FLOW_OK;
  for (const char *rest = layers->paths; (rest = next_path(rest, path, &s, error));) {
    if (layers->count == NPU_MOST_LAYERS)
      return vf_fail(error, TVM_FLOW_INVALID_ARGUMENT, "expected at most %d layers, got more; leave some out",
                     NPU_MOST_LAYERS);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
      return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected to load a layer of Vulkan, got: %.300s; install it",
                     dlerror());
    layers->libraries[layers->count++] = library;
    if (!symbol(library, "vkGetInstanceProcAddr") || !symbol(library, "vkGetDeviceProcAddr"))
      return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected %.300s to be a layer of Vulkan, got another library; correct "
                     "its path", path);
  }
  return s;
}

tvm_flow_status npu_layers_link(void *user, vf_instance *vulkan, tvm_flow_error *error) {
  npu_layers *layers = user;
  if (!layers->paths || !layers->paths[0]) return TVM_FLOW_OK;
  tvm_flow_status s = open_layers(layers, error);
  if (s || !layers->count) return s;
  PFN_vkGetInstanceProcAddr next = vulkan->find;
  PFN_vkGetDeviceProcAddr device_next = (PFN_vkGetDeviceProcAddr)symbol(vulkan->library, "vkGetDeviceProcAddr");
  for (uint32_t i = layers->count; i-- > 0;) { /* from libvulkan up; link i is what layer i is told */
    VkLayerInstanceLink *below = i + 1 < layers->count ? &layers->instance_links[i + 1] : NULL;
    VkLayerDeviceLink *below_device = below ? &layers->device_links[i + 1] : NULL;
    layers->instance_links[i] = (VkLayerInstanceLink){.pNext = below, .pfnNextGetInstanceProcAddr = next};
    layers->device_links[i] = (VkLayerDeviceLink){
        .pNext = below_device, .pfnNextGetInstanceProcAddr = next, .pfnNextGetDeviceProcAddr = device_next};
    next = (PFN_vkGetInstanceProcAddr)symbol(layers->libraries[i], "vkGetInstanceProcAddr");
    device_next = (PFN_vkGetDeviceProcAddr)symbol(layers->libraries[i], "vkGetDeviceProcAddr");
  }
  const PFN_vkVoidFunction create = next(NULL, "vkCreateInstance");
  memcpy(&vulkan->f.vkCreateInstance, &create, sizeof create);
  if (!create)
    return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected layers that make an instance, got none; update them");
  layers->instance = (VkLayerInstanceCreateInfo){.sType = VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO,
                                                 .function = VK_LAYER_LINK_INFO,
                                                 .u.pLayerInfo = &layers->instance_links[0]};
  layers->device = (VkLayerDeviceCreateInfo){.sType = VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO,
                                             .function = VK_LAYER_LINK_INFO,
                                             .u.pLayerInfo = &layers->device_links[0]};
  vulkan->find = next;
  vulkan->find_device = device_next;
  vulkan->instance_link = &layers->instance;
  vulkan->device_link = &layers->device;
  vulkan->device_link_next = &layers->device.pNext;
  return TVM_FLOW_OK;
}

void npu_layers_close(npu_layers *layers) {
  while (layers->count > 0) dlclose(layers->libraries[--layers->count]);
}
