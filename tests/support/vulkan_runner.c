/* Runs one compute shader on the first Vulkan device, with the validation layer where it is installed.
 *
 * Spaces are storage buffers at bindings 0 to 3 of descriptor set 0, filled before and read back after the dispatch.
 * Every function returns 0, or the Vulkan result of the call that `runner_message` names. One context, one thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vulkan.h>

#define SPACES 4
#define CHECK(call)                                                    \
  do {                                                                 \
    VkResult result_ = (call);                                         \
    if (result_ != VK_SUCCESS) {                                       \
      snprintf(message, sizeof message, "%s gives %d", #call, result_); \
      return result_;                                                  \
    }                                                                  \
  } while (0)

static VkInstance instance;
static VkPhysicalDevice physical;
static VkDevice device;
static VkQueue queue;
static uint32_t family;
static float period;
static VkPhysicalDeviceMemoryProperties memories;
static char message[4096];
static char name[VK_MAX_PHYSICAL_DEVICE_NAME_SIZE];
static unsigned complaints;

const char *runner_message(void) { return message; }
const char *runner_device(void) { return name; }
unsigned runner_complaints(void) { return complaints; }

static VkBool32 VKAPI_CALL told(VkDebugUtilsMessageSeverityFlagBitsEXT severity, VkDebugUtilsMessageTypeFlagsEXT type,
                                const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
  (void)type, (void)user;
  if (severity >= VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT) {
    complaints++;
    snprintf(message, sizeof message, "%s", data->pMessage);
  }
  return VK_FALSE;
}

static int has_layer(const char *wanted) {
  VkLayerProperties found[64];
  uint32_t count = 64;
  vkEnumerateInstanceLayerProperties(&count, found);
  for (uint32_t i = 0; i < count; i++)
    if (!strcmp(found[i].layerName, wanted)) return 1;
  return 0;
}

static int open_instance(int validate) {
  const char *layer = "VK_LAYER_KHRONOS_validation", *extension = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  VkDebugUtilsMessengerCreateInfoEXT messenger = {
      .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
      .messageSeverity =
          VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
      .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
      .pfnUserCallback = told};
  VkValidationFeatureEnableEXT enabled = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
  VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                      .pNext = &messenger,
                                      .enabledValidationFeatureCount = 1,
                                      .pEnabledValidationFeatures = &enabled};
  VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .apiVersion = VK_API_VERSION_1_3};
  VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
  if (validate && has_layer(layer)) {
    info.pNext = &features;
    info.enabledLayerCount = info.enabledExtensionCount = 1;
    info.ppEnabledLayerNames = &layer;
    info.ppEnabledExtensionNames = &extension;
  }
  CHECK(vkCreateInstance(&info, NULL, &instance));
  if (info.pNext) {
    PFN_vkCreateDebugUtilsMessengerEXT create =
        (PFN_vkCreateDebugUtilsMessengerEXT)vkGetInstanceProcAddr(instance, "vkCreateDebugUtilsMessengerEXT");
    VkDebugUtilsMessengerEXT unused;
    CHECK(create(instance, &messenger, NULL, &unused));
  }
  return 0;
}

int runner_open(int validate) {
  VkPhysicalDevice found[8];
  uint32_t count = 8;
  int failed = open_instance(validate);
  if (failed) return failed;
  CHECK(vkEnumeratePhysicalDevices(instance, &count, found));
  if (count == 0) return snprintf(message, sizeof message, "no device");
  physical = found[0];
  VkPhysicalDeviceProperties properties;
  vkGetPhysicalDeviceProperties(physical, &properties);
  memcpy(name, properties.deviceName, sizeof name);
  period = properties.limits.timestampPeriod;
  vkGetPhysicalDeviceMemoryProperties(physical, &memories);
  VkQueueFamilyProperties families[16];
  count = 16;
  vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
  for (family = 0; family < count && !(families[family].queueFlags & VK_QUEUE_COMPUTE_BIT);) family++;
  if (family == count) return snprintf(message, sizeof message, "no queue for compute");
  VkPhysicalDeviceVulkan13Features three = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES};
  VkPhysicalDeviceVulkan12Features two = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                          .pNext = &three};
  VkPhysicalDeviceFeatures2 features = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &two};
  vkGetPhysicalDeviceFeatures2(physical, &features);
  features.features.robustBufferAccess = VK_FALSE;
  float priority = 1;
  VkDeviceQueueCreateInfo one = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                 .queueFamilyIndex = family,
                                 .queueCount = 1,
                                 .pQueuePriorities = &priority};
  VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                             .pNext = &features,
                             .queueCreateInfoCount = 1,
                             .pQueueCreateInfos = &one};
  CHECK(vkCreateDevice(physical, &info, NULL, &device));
  vkGetDeviceQueue(device, family, 0, &queue);
  return 0;
}

typedef struct {
  VkBuffer buffer;
  VkDeviceMemory memory;
  void *mapped;
} space;

static int make_space(space *made, size_t bytes, const void *host) {
  VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                             .size = bytes,
                             .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT};
  CHECK(vkCreateBuffer(device, &info, NULL, &made->buffer));
  VkMemoryRequirements needs;
  vkGetBufferMemoryRequirements(device, made->buffer, &needs);
  VkMemoryPropertyFlags wanted = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  uint32_t type = 0;
  while (type < memories.memoryTypeCount &&
         !(needs.memoryTypeBits >> type & 1 && (memories.memoryTypes[type].propertyFlags & wanted) == wanted))
    type++;
  VkMemoryAllocateInfo allocation = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
  CHECK(vkAllocateMemory(device, &allocation, NULL, &made->memory));
  CHECK(vkBindBufferMemory(device, made->buffer, made->memory, 0));
  CHECK(vkMapMemory(device, made->memory, 0, VK_WHOLE_SIZE, 0, &made->mapped));
  memcpy(made->mapped, host, bytes);
  return 0;
}

typedef struct {
  const uint32_t *spirv;
  size_t spirv_bytes;
  const uint32_t *push;
  uint32_t num_push;
  const uint32_t *constants;
  uint32_t num_constants;
  void *spaces[SPACES];
  size_t bytes[SPACES];
  uint32_t grid[3];
  uint32_t repeats;
  double seconds; /* of one dispatch, by the device's clock */
} job;

typedef struct {
  VkDescriptorSetLayout set_layout;
  VkPipelineLayout layout;
  VkShaderModule module;
  VkPipeline pipeline;
  VkDescriptorPool pool;
  VkDescriptorSet set;
  VkCommandPool commands;
  VkCommandBuffer buffer;
  VkQueryPool times;
} made;

static int make_pipeline(const job *j, made *m) {
  VkDescriptorSetLayoutBinding bindings[SPACES] = {0};
  for (uint32_t i = 0; i < SPACES; i++)
    bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                 .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                 .descriptorCount = 1,
                                                 .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
  VkDescriptorSetLayoutCreateInfo set_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                              .bindingCount = SPACES,
                                              .pBindings = bindings};
  CHECK(vkCreateDescriptorSetLayout(device, &set_info, NULL, &m->set_layout));
  VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = 4 * j->num_push};
  VkPipelineLayoutCreateInfo layout_info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                            .setLayoutCount = 1,
                                            .pSetLayouts = &m->set_layout,
                                            .pushConstantRangeCount = 1,
                                            .pPushConstantRanges = &range};
  CHECK(vkCreatePipelineLayout(device, &layout_info, NULL, &m->layout));
  VkShaderModuleCreateInfo module_info = {
      .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = j->spirv_bytes, .pCode = j->spirv};
  CHECK(vkCreateShaderModule(device, &module_info, NULL, &m->module));
  VkSpecializationMapEntry entries[32];
  for (uint32_t i = 0; i < j->num_constants; i++)
    entries[i] = (VkSpecializationMapEntry){.constantID = i, .offset = 4 * i, .size = 4};
  VkSpecializationInfo special = {.mapEntryCount = j->num_constants,
                                  .pMapEntries = entries,
                                  .dataSize = 4 * (size_t)j->num_constants,
                                  .pData = j->constants};
  VkComputePipelineCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
      .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = m->module,
                .pName = "main",
                .pSpecializationInfo = &special},
      .layout = m->layout};
  CHECK(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, NULL, &m->pipeline));
  return 0;
}

static int make_set(const job *j, made *m, const space *spaces) {
  VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, .descriptorCount = SPACES};
  VkDescriptorPoolCreateInfo pool_info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                          .maxSets = 1,
                                          .poolSizeCount = 1,
                                          .pPoolSizes = &size};
  CHECK(vkCreateDescriptorPool(device, &pool_info, NULL, &m->pool));
  VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                      .descriptorPool = m->pool,
                                      .descriptorSetCount = 1,
                                      .pSetLayouts = &m->set_layout};
  CHECK(vkAllocateDescriptorSets(device, &info, &m->set));
  for (uint32_t i = 0; i < SPACES; i++) {
    VkDescriptorBufferInfo whole = {.buffer = spaces[i].buffer, .range = j->bytes[i]};
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = m->set,
                                  .dstBinding = i,
                                  .descriptorCount = 1,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = &whole};
    vkUpdateDescriptorSets(device, 1, &write, 0, NULL);
  }
  return 0;
}

static int record(const job *j, made *m) {
  VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family};
  CHECK(vkCreateCommandPool(device, &pool, NULL, &m->commands));
  VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                      .commandPool = m->commands,
                                      .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                      .commandBufferCount = 1};
  CHECK(vkAllocateCommandBuffers(device, &info, &m->buffer));
  VkQueryPoolCreateInfo times = {
      .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = 2};
  CHECK(vkCreateQueryPool(device, &times, NULL, &m->times));
  VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  CHECK(vkBeginCommandBuffer(m->buffer, &begin));
  vkCmdResetQueryPool(m->buffer, m->times, 0, 2);
  vkCmdBindPipeline(m->buffer, VK_PIPELINE_BIND_POINT_COMPUTE, m->pipeline);
  vkCmdBindDescriptorSets(m->buffer, VK_PIPELINE_BIND_POINT_COMPUTE, m->layout, 0, 1, &m->set, 0, NULL);
  vkCmdPushConstants(m->buffer, m->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, 4 * j->num_push, j->push);
  vkCmdWriteTimestamp(m->buffer, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, m->times, 0);
  VkMemoryBarrier after = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                           .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                           .dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
  for (uint32_t i = 0; i < j->repeats; i++) {
    vkCmdDispatch(m->buffer, j->grid[0], j->grid[1], j->grid[2]);
    vkCmdPipelineBarrier(m->buffer, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 1,
                         &after, 0, NULL, 0, NULL);
  }
  vkCmdWriteTimestamp(m->buffer, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, m->times, 1);
  VkMemoryBarrier host = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                          .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                          .dstAccessMask = VK_ACCESS_HOST_READ_BIT};
  vkCmdPipelineBarrier(m->buffer, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &host, 0,
                       NULL, 0, NULL);
  CHECK(vkEndCommandBuffer(m->buffer));
  return 0;
}

static int submit(job *j, made *m) {
  VkSubmitInfo submit = {
      .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &m->buffer};
  CHECK(vkQueueSubmit(queue, 1, &submit, VK_NULL_HANDLE));
  CHECK(vkQueueWaitIdle(queue));
  uint64_t ticks[2];
  CHECK(vkGetQueryPoolResults(device, m->times, 0, 2, sizeof ticks, ticks, sizeof *ticks, VK_QUERY_RESULT_64_BIT));
  j->seconds = (double)(ticks[1] - ticks[0]) * (double)period * 1e-9 / (double)j->repeats;
  return 0;
}

int runner_run(job *j) {
  space spaces[SPACES] = {0};
  made m = {0};
  int failed = 0;
  message[0] = 0;
  for (uint32_t i = 0; i < SPACES && !failed; i++) failed = make_space(&spaces[i], j->bytes[i], j->spaces[i]);
  if (!failed) failed = make_pipeline(j, &m);
  if (!failed) failed = make_set(j, &m, spaces);
  if (!failed) failed = record(j, &m);
  if (!failed) failed = submit(j, &m);
  for (uint32_t i = 0; i < SPACES; i++) {
    if (!failed) memcpy(j->spaces[i], spaces[i].mapped, j->bytes[i]);
    vkDestroyBuffer(device, spaces[i].buffer, NULL);
    vkFreeMemory(device, spaces[i].memory, NULL);
  }
  vkDestroyQueryPool(device, m.times, NULL);
  vkDestroyCommandPool(device, m.commands, NULL);
  vkDestroyDescriptorPool(device, m.pool, NULL);
  vkDestroyPipeline(device, m.pipeline, NULL);
  vkDestroyShaderModule(device, m.module, NULL);
  vkDestroyPipelineLayout(device, m.layout, NULL);
  vkDestroyDescriptorSetLayout(device, m.set_layout, NULL);
  return failed;
}
