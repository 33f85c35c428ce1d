/* What a machine has: see tvm_flow_vulkan.h. */
#include <stdlib.h>
#include <string.h>

#include "tvm_flow_vulkan.h"
#include "vf_instance.h"

static const char *kind_of(VkPhysicalDeviceType type) {
  static const char *const kinds[] = {"other", "integrated GPU", "discrete GPU", "virtual GPU", "CPU"};
  return kinds[type >= 0 && type <= VK_PHYSICAL_DEVICE_TYPE_CPU ? type : 0];
}

static int show(const vf_instance *vulkan, VkPhysicalDevice physical, uint32_t index, VkExtensionProperties *room,
                tvm_flow_vulkan_see see, void *user) {
  vf_facts facts;
  vf_feature_chain chain;
  char lacks[VF_MOST_NAMES];
  vf_look(&vulkan->f, physical, NULL, room, &facts, &chain);
  vf_name_lacking(&facts, lacks);
  const VkPhysicalDeviceProperties *p = &facts.properties;
  tvm_flow_vulkan_device seen = {.struct_bytes = sizeof seen,
                                 .index = index,
                                 .name = p->deviceName,
                                 .kind = kind_of(p->deviceType),
                                 .driver = facts.driver,
                                 .lacks = lacks,
                                 .api_version = p->apiVersion,
                                 .driver_version = p->driverVersion,
                                 .subgroup = facts.subgroup,
                                 .shared_bytes = p->limits.maxComputeSharedMemorySize,
                                 .invocations = p->limits.maxComputeWorkGroupInvocations,
                                 .memory_bytes = facts.memory_bytes};
  memcpy(seen.uuid, facts.uuid, sizeof seen.uuid);
  return see(user, &seen);
}

/* No handle lends memory here. */
tvm_flow_status tvm_flow_vulkan_list(const char *loader, tvm_flow_vulkan_see see, void *user, tvm_flow_error *error) {
  vf_instance vulkan = {0};
  VkPhysicalDevice found[VF_MOST_DEVICES];
  uint32_t count = 0;
  VkExtensionProperties *room = malloc(VF_MOST_EXTENSIONS * sizeof *room);
  tvm_flow_status s =
      room ? vf_instance_open(&vulkan, loader, NULL, error) : vf_no_memory(error, "a list of extensions");
  if (!s) s = vf_devices(&vulkan, found, &count, error);
  for (uint32_t i = 0; !s && i < count && !show(&vulkan, found[i], i, room, see, user); i++) {}
  vf_instance_close(&vulkan);
  free(room);
  return s;
}
