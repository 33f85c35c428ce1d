/* A libvulkan that is the real one but for what FAULT in the environment names:
 *
 *   NAME:RESULT:N   the Nth call of NAME (from 0; ANY: of all functions below) gives RESULT, a wait after its time
 *   dot             integer dot products are of unsigned bytes
 *   no64            the device has no 64-bit integers
 *   notime          its queues have no timestamps
 *   nohost          it does not take the host's memory
 *
 * faulty_calls counts those calls, faulty_barriers what is recorded of vkCmdPipelineBarrier. Arguments are passed on as eight words, which all of them fit. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

__attribute__((visibility("default"))) int faulty_calls, faulty_barriers;
static int named_calls;

#define EXPORT __attribute__((visibility("default")))
#define WORDS intptr_t a, intptr_t b, intptr_t c, intptr_t d, intptr_t e, intptr_t f, intptr_t g, intptr_t h
#define FUNCTIONS(X)                                                                                          \
  X(vkCreateBuffer) X(vkAllocateMemory) X(vkBindBufferMemory) X(vkMapMemory) X(vkCreateShaderModule)           \
  X(vkCreatePipelineCache) X(vkCreateComputePipelines) X(vkCreateDescriptorSetLayout) X(vkCreatePipelineLayout) \
  X(vkCreateDescriptorPool) X(vkAllocateDescriptorSets) X(vkCreateCommandPool) X(vkAllocateCommandBuffers)      \
  X(vkBeginCommandBuffer) X(vkEndCommandBuffer) X(vkCreateFence) X(vkResetFences) X(vkQueueSubmit)             \
  X(vkWaitForFences) X(vkCreateQueryPool) X(vkGetQueryPoolResults) X(vkGetMemoryHostPointerPropertiesEXT)

typedef int (*function)(WORDS);

static int fault(const char *name) {
  const char *wanted = getenv("FAULT");
  char which[64];
  int result, at, any;
  faulty_calls++;
  if (!wanted || sscanf(wanted, "%63[^:]:%d:%d", which, &result, &at) != 3) return 0;
  any = strcmp(which, "ANY") == 0;
  if (!any && strcmp(which, name) != 0) return 0;
  return (any ? faulty_calls - 1 : named_calls++) == at ? result : 0;
}

static int is_on(const char *name) {
  const char *wanted = getenv("FAULT");
  return wanted && strcmp(wanted, name) == 0;
}

#define WRAP(name)                                              \
  static function real_##name;                                  \
  static int wrapped_##name(WORDS) {                            \
    int result = fault(#name);                                  \
    if (result && strcmp(#name, "vkWaitForFences")) return result; \
    int own = real_##name(a, b, c, d, e, f, g, h);              \
    return result ? result : own;                               \
  }
FUNCTIONS(WRAP)

static int lying_module(WORDS) {
  VkShaderModuleCreateInfo info = *(const VkShaderModuleCreateInfo *)b;
  uint32_t *code = malloc(info.codeSize);
  memcpy(code, info.pCode, info.codeSize);
  for (size_t i = 5; i < info.codeSize / 4; i += code[i] >> 16)
    if ((code[i] & 0xffff) == 4450) code[i]++; /* OpSDot, OpUDot */
  info.pCode = code;
  int result = real_vkCreateShaderModule(a, (intptr_t)&info, c, d, e, f, g, h);
  free(code);
  return result;
}

static PFN_vkGetPhysicalDeviceFeatures2 real_features;
static void no_64(VkPhysicalDevice physical, VkPhysicalDeviceFeatures2 *out) {
  real_features(physical, out);
  out->features.shaderInt64 = 0;
}

static PFN_vkGetPhysicalDeviceQueueFamilyProperties real_families;
static void no_time(VkPhysicalDevice physical, uint32_t *count, VkQueueFamilyProperties *out) {
  real_families(physical, count, out);
  for (uint32_t i = 0; out && i < *count; i++) out[i].timestampValidBits = 0;
}

static PFN_vkEnumerateDeviceExtensionProperties real_extensions;
static VkResult no_host(VkPhysicalDevice physical, const char *layer, uint32_t *count, VkExtensionProperties *out) {
  VkResult result = real_extensions(physical, layer, count, out);
  for (uint32_t i = 0; out && i < *count; i++)
    if (strcmp(out[i].extensionName, "VK_EXT_external_memory_host") == 0) out[i].extensionName[0] = 0;
  return result;
}

static PFN_vkCmdPipelineBarrier real_barrier;
static void counted_barrier(VkCommandBuffer commands, VkPipelineStageFlags from, VkPipelineStageFlags to,
                            VkDependencyFlags flags, uint32_t memories, const VkMemoryBarrier *memory, uint32_t buffers,
                            const VkBufferMemoryBarrier *buffer, uint32_t images, const VkImageMemoryBarrier *image) {
  faulty_barriers++;
  real_barrier(commands, from, to, flags, memories, memory, buffers, buffer, images, image);
}

static PFN_vkGetDeviceProcAddr real_of_device;
static PFN_vkVoidFunction of_device(VkDevice device, const char *name) {
  PFN_vkVoidFunction own = real_of_device(device, name);
#define REPLACE(each)                       \
  if (strcmp(name, #each) == 0) {           \
    real_##each = (function)own;            \
    if (own) own = (PFN_vkVoidFunction)wrapped_##each; \
  }
  FUNCTIONS(REPLACE)
  if (strcmp(name, "vkCreateShaderModule") == 0 && is_on("dot")) own = (PFN_vkVoidFunction)lying_module;
  if (strcmp(name, "vkCmdPipelineBarrier") == 0) {
    real_barrier = (PFN_vkCmdPipelineBarrier)own;
    own = (PFN_vkVoidFunction)counted_barrier;
  }
  return own;
}

EXPORT PFN_vkVoidFunction vkGetInstanceProcAddr(VkInstance instance, const char *name) {
  static PFN_vkGetInstanceProcAddr real;
  if (!real) real = (PFN_vkGetInstanceProcAddr)dlsym(dlopen("libvulkan.so.1", RTLD_NOW), "vkGetInstanceProcAddr");
  PFN_vkVoidFunction own = real(instance, name);
  if (strcmp(name, "vkCreateInstance") == 0) faulty_calls = named_calls = 0;
  if (strcmp(name, "vkGetDeviceProcAddr") == 0) {
    real_of_device = (PFN_vkGetDeviceProcAddr)own;
    return (PFN_vkVoidFunction)of_device;
  }
  if (strcmp(name, "vkGetPhysicalDeviceFeatures2") == 0 && is_on("no64")) {
    real_features = (PFN_vkGetPhysicalDeviceFeatures2)own;
    return (PFN_vkVoidFunction)no_64;
  }
  if (strcmp(name, "vkGetPhysicalDeviceQueueFamilyProperties") == 0 && is_on("notime")) {
    real_families = (PFN_vkGetPhysicalDeviceQueueFamilyProperties)own;
    return (PFN_vkVoidFunction)no_time;
  }
  if (strcmp(name, "vkEnumerateDeviceExtensionProperties") == 0 && is_on("nohost")) {
    real_extensions = (PFN_vkEnumerateDeviceExtensionProperties)own;
    return (PFN_vkVoidFunction)no_host;
  }
  return own;
}
