#include "vf_device.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "vf_cache.h"
#include "vf_clock.h"
#include "vf_memory.h"

enum { ALIGN = 64 };

void *vf_take(const vf_device *device, uint64_t bytes, const char *what, tvm_flow_error *error) {
  void *memory = device->services->allocate(device->services->user, bytes ? bytes : 1, ALIGN);
  if (memory) memset(memory, 0, (size_t)(bytes ? bytes : 1));
  else vf_no_memory(error, what);
  return memory;
}

void vf_give(const vf_device *device, void *memory) {
  if (memory) device->services->release(device->services->user, memory);
}

void vf_log(const vf_device *device, uint32_t level, const char *format, ...) {
  char line[640];
  va_list arguments;
  va_start(arguments, format);
  int used = snprintf(line, sizeof line, VF_PREFIX);
  vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
  va_end(arguments);
  device->services->log(device->services->user, level, line);
}

/* A program's own options follow the vtable where its struct_bytes say so. */
void vf_given_options(const tvm_flow_device_open_info *info, void *out, size_t bytes) {
  const size_t reaches = offsetof(tvm_flow_device_open_info, type) + sizeof info->type;
  if (info->struct_bytes < reaches || !info->type || info->type->struct_bytes <= sizeof(tvm_flow_device_type)) return;
  const size_t given = info->type->struct_bytes;
  memcpy(out, info->type, given < bytes ? given : bytes);
}

static tvm_flow_status choose_family(vf_device *device, tvm_flow_error *error) {
  const VkQueueFlags queue = device->wants ? device->wants->queue : VK_QUEUE_COMPUTE_BIT;
  VkQueueFamilyProperties families[16];
  uint32_t count = sizeof families / sizeof *families;
  vf_of(device)->vkGetPhysicalDeviceQueueFamilyProperties(device->physical, &count, families);
  for (device->family = 0; device->family < count; device->family++) {
    device->clock_bits = families[device->family].timestampValidBits;
    if (families[device->family].queueFlags & queue) return TVM_FLOW_OK;
  }
  return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected %.100s to have a queue that %s, got none; choose another device",
                 device->facts.properties.deviceName, device->wants ? "runs data graphs" : "computes");
}

static tvm_flow_status find_physical(vf_device *device, const char *wanted, tvm_flow_error *error) {
  VkExtensionProperties *room =
      vf_take(device, VF_MOST_EXTENSIONS * sizeof *room, "a list of extensions", error);
  if (!room) return TVM_FLOW_NO_MEMORY;
  tvm_flow_status s = vf_choose(&device->vulkan, wanted, device->wants, room, &device->physical, error);
  if (!s) vf_look(vf_of(device), device->physical, device->wants, room, &device->facts, &device->chain);
  vf_give(device, room);
  if (!s && device->facts.old)
    s = vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device of Vulkan 1.1 or later, got %.100s with 1.0; update its "
                "driver, or choose another device", device->facts.properties.deviceName);
  if (!s && device->facts.lacks)
    s = vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device with %s, got %.100s without; update its driver, or "
                "choose another device", device->facts.lacks, device->facts.properties.deviceName);
  return s ? s : choose_family(device, error);
}

static tvm_flow_status make_device(vf_device *device, tvm_flow_error *error) {
  const float priority = 1;
  const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                         .queueFamilyIndex = device->family,
                                         .queueCount = 1,
                                         .pQueuePriorities = &priority};
  if (device->vulkan.device_link) *device->vulkan.device_link_next = &device->chain.core;
  const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                   .pNext = device->vulkan.device_link ? device->vulkan.device_link
                                                                       : (const void *)&device->chain.core,
                                   .queueCreateInfoCount = 1,
                                   .pQueueCreateInfos = &queue,
                                   .enabledExtensionCount = device->facts.num_extensions,
                                   .ppEnabledExtensionNames = device->facts.extensions};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateDevice(device->physical, &info, NULL, &device->device), device->device);
  if (result != VK_SUCCESS) return vf_answer(error, result, "the device");
  tvm_flow_status s = vf_load_device(&device->vulkan, device->device, error);
  if (!s) vf_of(device)->vkGetDeviceQueue(device->device, device->family, 0, &device->queue);
  return s;
}

static tvm_flow_status make_queue(vf_device *device, tvm_flow_error *error) {
  const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                        .queueFamilyIndex = device->family};
  const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateCommandPool(device->device, &pool, NULL, &device->commands), device->commands);
  if (result == VK_SUCCESS)
    VF_MADE(result, vf_of(device)->vkCreateFence(device->device, &fence, NULL, &device->fence), device->fence);
  return vf_answer(error, result, "a queue");
}

static tvm_flow_status open_all(vf_device *device, const vf_options *options, tvm_flow_error *error) {
  tvm_flow_status s = vf_instance_open(&device->vulkan, options->loader, device->wants, error);
  if (!s) s = find_physical(device, options->device, error);
  if (!s) s = make_device(device, error);
  if (!s) s = make_queue(device, error);
  if (s) return s;
  vf_memory_open(device, options->own_memory);
  if (options->plain_products) vf_drop_dot(&device->facts);
  vf_log(device, TVM_FLOW_LOG_INFO, "%s, Vulkan %u.%u, %s, %s%s", device->facts.properties.deviceName,
         device->facts.properties.apiVersion >> 22 & 127, device->facts.properties.apiVersion >> 12 & 1023,
         device->facts.driver, device->own_memory ? "memory of its own" : "memory shared with the CPU",
         device->clock_bits ? "" : ", no timestamps");
  return vf_cache_open(device, options->cache, error);
}

void *vf_take_device(const tvm_flow_device_open_info *info, size_t bytes, tvm_flow_error *error) {
  void *device = info->services->allocate(info->services->user, bytes, ALIGN);
  if (device) memset(device, 0, bytes);
  else vf_no_memory(error, "the device");
  return device;
}

tvm_flow_status vf_open(vf_device *device, const tvm_flow_device_open_info *info, const vf_options *options,
                        tvm_flow_error *error) {
  device->services = info->services;
  device->weights = info->weights;
  device->weights_bytes = info->weights_bytes;
  device->branches = info->branches;
  device->arena_bytes = info->arena_bytes;
  device->prompt_bytes = vf_rounded(info->prompt_bytes, VF_ALIGNMENT);
  device->wants = options->wants;
  return open_all(device, options, error);
}

void vf_close(void *opened) {
  vf_device *device = opened;
  if (device->device && vf_of(device)->vkDestroyDevice) {
    const vf_functions *f = vf_of(device);
    if (f->vkDeviceWaitIdle) f->vkDeviceWaitIdle(device->device);
    vf_cache_close(device);
    vf_clock_close(device);
    vf_buffer_free(device, &device->staging);
    vf_buffer_free(device, &device->arena);
    vf_buffer_free(device, &device->prompts);
    for (uint32_t i = 0; i < device->num_blocks; i++) vf_buffer_free(device, &device->blocks[i]);
    if (device->fence) f->vkDestroyFence(device->device, device->fence, NULL);
    if (device->commands) f->vkDestroyCommandPool(device->device, device->commands, NULL);
    f->vkDestroyDevice(device->device, NULL);
  }
  vf_instance_close(&device->vulkan);
  vf_give(device, device->windows);
  vf_give(device, device);
}

tvm_flow_status vf_begin(vf_device *device, VkCommandBuffer *out, tvm_flow_error *error) {
  const VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = device->commands,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = 1};
  const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  VkResult result = vf_of(device)->vkAllocateCommandBuffers(device->device, &info, out);
  if (result != VK_SUCCESS) return vf_answer(error, result, "commands");
  result = vf_of(device)->vkBeginCommandBuffer(*out, &begin);
  if (result != VK_SUCCESS) vf_of(device)->vkFreeCommandBuffers(device->device, device->commands, 1, out);
  return vf_answer(error, result, "commands");
}

tvm_flow_status vf_submit(vf_device *device, VkCommandBuffer commands, const char *what, tvm_flow_error *error) {
  const vf_functions *f = vf_of(device);
  const VkSubmitInfo info = {
      .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &commands};
  VkResult result = device->lost ? VK_ERROR_DEVICE_LOST : f->vkResetFences(device->device, 1, &device->fence);
  if (result == VK_SUCCESS) result = f->vkQueueSubmit(device->queue, 1, &info, device->fence);
  if (result == VK_SUCCESS) {
    result = f->vkWaitForFences(device->device, 1, &device->fence, 1, UINT64_MAX);
    if (result != VK_SUCCESS) f->vkDeviceWaitIdle(device->device); /* nobody knows what still runs */
  }
  device->lost |= result == VK_ERROR_DEVICE_LOST;
  return vf_answer(error, result, what);
}

tvm_flow_status vf_finish(vf_device *device, VkCommandBuffer commands, const char *what, tvm_flow_error *error) {
  VkResult result = vf_of(device)->vkEndCommandBuffer(commands);
  tvm_flow_status s = result == VK_SUCCESS ? vf_submit(device, commands, what, error) : vf_answer(error, result, what);
  vf_of(device)->vkFreeCommandBuffers(device->device, device->commands, 1, &commands);
  return s;
}
