#include "vf_memory.h"

#include <string.h>

enum { STAGING_BYTES = 4 << 20 };

static const VkMemoryPropertyFlags MAPPED = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;

/* Drivers list the best first. */
uint32_t vf_memory_type(const vf_device *device, uint32_t allowed, VkMemoryPropertyFlags flags) {
  for (uint32_t i = 0; i < device->memory.memoryTypeCount; i++)
    if (allowed >> i & 1 && (device->memory.memoryTypes[i].propertyFlags & flags) == flags) return i;
  return UINT32_MAX;
}

static uint32_t find_first(const vf_device *device, uint32_t allowed, const VkMemoryPropertyFlags *flags, int count) {
  uint32_t type = UINT32_MAX;
  for (int i = 0; type == UINT32_MAX && i < count; i++) type = vf_memory_type(device, allowed, flags[i]);
  return type;
}

static uint32_t type_for(const vf_device *device, vf_kind kind, uint32_t allowed) {
  const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
  const VkMemoryPropertyFlags unified[] = {local | MAPPED | cached, local | MAPPED, MAPPED};
  const VkMemoryPropertyFlags staging[] = {MAPPED | cached, MAPPED};
  const VkMemoryPropertyFlags own[] = {local, 0};
  if (kind == VF_STAGING) return find_first(device, allowed, staging, 2);
  return kind == VF_DEVICE && device->own_memory ? find_first(device, allowed, own, 2)
                                                 : find_first(device, allowed, unified, 3);
}

void vf_memory_open(vf_device *device, int own_memory) {
  const VkPhysicalDeviceType type = device->facts.properties.deviceType;
  vf_of(device)->vkGetPhysicalDeviceMemoryProperties(device->physical, &device->memory);
  /* Where a card's memory is mapped, reading it over the bus is slower than a copy. */
  device->own_memory =
      own_memory || (type != VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU && type != VK_PHYSICAL_DEVICE_TYPE_CPU) ||
      vf_memory_type(device, UINT32_MAX, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT | MAPPED) == UINT32_MAX;
}

static tvm_flow_status take_memory(vf_device *device, vf_kind kind, const char *what, vf_buffer *out,
                                   tvm_flow_error *error) {
  const vf_functions *f = vf_of(device);
  VkMemoryRequirements needs;
  f->vkGetBufferMemoryRequirements(device->device, out->buffer, &needs);
  const uint32_t type = out->type = type_for(device, kind, needs.memoryTypeBits);
  if (type == UINT32_MAX) return vf_answer(error, VK_ERROR_OUT_OF_DEVICE_MEMORY, what);
  const VkMemoryAllocateInfo info = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = needs.size, .memoryTypeIndex = type};
  VkResult result;
  VF_MADE(result, f->vkAllocateMemory(device->device, &info, NULL, &out->memory), out->memory);
  if (result == VK_SUCCESS) result = f->vkBindBufferMemory(device->device, out->buffer, out->memory, 0);
  if (result == VK_SUCCESS && !(kind == VF_DEVICE && device->own_memory) &&
      device->memory.memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT) {
    void *mapped;
    VF_MADE(result, f->vkMapMemory(device->device, out->memory, 0, out->bytes, 0, &mapped), mapped);
    out->mapped = mapped;
  }
  return vf_answer(error, result, what);
}

tvm_flow_status vf_buffer_make(vf_device *device, vf_kind kind, uint64_t bytes, const char *what, vf_buffer *out,
                               tvm_flow_error *error) {
  if (!bytes) return TVM_FLOW_OK;
  const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                   .size = out->bytes = vf_rounded(bytes, VF_ALIGNMENT),
                                   .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                            VK_BUFFER_USAGE_TRANSFER_DST_BIT};
  if (out->bytes > device->facts.most_allocated)
    return vf_fail(error, TVM_FLOW_NO_MEMORY, "%s: expected at most %llu bytes at once, got %llu; choose another "
                   "device, or a smaller model", what, (unsigned long long)device->facts.most_allocated,
                   (unsigned long long)out->bytes);
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateBuffer(device->device, &info, NULL, &out->buffer), out->buffer);
  return result == VK_SUCCESS ? take_memory(device, kind, what, out, error) : vf_answer(error, result, what);
}

void vf_buffer_free(vf_device *device, vf_buffer *buffer) {
  if (buffer->buffer) vf_of(device)->vkDestroyBuffer(device->device, buffer->buffer, NULL);
  if (buffer->memory) vf_of(device)->vkFreeMemory(device->device, buffer->memory, NULL);
  *buffer = (vf_buffer){0};
}

static void barrier(vf_device *device, VkCommandBuffer commands, VkPipelineStageFlags from, VkPipelineStageFlags to,
                    const VkMemoryBarrier *memory) {
  vf_of(device)->vkCmdPipelineBarrier(commands, from, to, 0, 1, memory, 0, NULL, 0, NULL);
}

/* Between the staging buffer and another one, after what kernels wrote and before what they will read. */
static tvm_flow_status copy(vf_device *device, const vf_buffer *from, const vf_buffer *to, const VkBufferCopy *region,
                            tvm_flow_error *error) {
  const VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, transfer = VK_PIPELINE_STAGE_TRANSFER_BIT;
  const VkAccessFlags shaders = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT;
  const VkAccessFlags copies = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  const VkMemoryBarrier before = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                  .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                                  .dstAccessMask = copies};
  const VkMemoryBarrier after = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                 .srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT,
                                 .dstAccessMask = shaders | copies | VK_ACCESS_HOST_READ_BIT};
  VkCommandBuffer commands;
  tvm_flow_status s = vf_begin(device, &commands, error);
  if (s) return s;
  barrier(device, commands, compute | transfer, transfer, &before);
  vf_of(device)->vkCmdCopyBuffer(commands, from->buffer, to->buffer, 1, region);
  barrier(device, commands, transfer, compute | transfer | VK_PIPELINE_STAGE_HOST_BIT, &after);
  return vf_finish(device, commands, "a copy", error);
}

static tvm_flow_status make_staging(vf_device *device, tvm_flow_error *error) {
  if (device->staging.memory) return TVM_FLOW_OK;
  tvm_flow_status s = vf_buffer_make(device, VF_STAGING, STAGING_BYTES, "copies", &device->staging, error);
  if (s) vf_buffer_free(device, &device->staging);
  return s;
}

static tvm_flow_status stage(vf_device *device, const vf_buffer *buffer, uint64_t offset, uint8_t *out,
                             const uint8_t *in, uint64_t bytes, tvm_flow_error *error) {
  tvm_flow_status s = make_staging(device, error);
  for (uint64_t done = 0; !s && done < bytes;) {
    const uint64_t most = device->staging.bytes, part = bytes - done < most ? bytes - done : most;
    const VkBufferCopy into = {.dstOffset = offset + done, .size = part};
    const VkBufferCopy out_of = {.srcOffset = offset + done, .size = part};
    if (in) memcpy(device->staging.mapped, in + done, (size_t)part);
    s = in ? copy(device, &device->staging, buffer, &into, error)
           : copy(device, buffer, &device->staging, &out_of, error);
    if (!s && out) memcpy(out + done, device->staging.mapped, (size_t)part);
    done += part;
  }
  return s;
}

tvm_flow_status vf_write(vf_device *device, const vf_buffer *to, uint64_t offset, const void *host, uint64_t bytes,
                         tvm_flow_error *error) {
  if (!to->mapped) return stage(device, to, offset, NULL, host, bytes, error);
  memcpy(to->mapped + offset, host, (size_t)bytes);
  return TVM_FLOW_OK;
}

tvm_flow_status vf_read(vf_device *device, const vf_buffer *from, uint64_t offset, void *host, uint64_t bytes,
                        tvm_flow_error *error) {
  if (!from->mapped) return stage(device, from, offset, host, NULL, bytes, error);
  memcpy(host, from->mapped + offset, (size_t)bytes);
  return TVM_FLOW_OK;
}
