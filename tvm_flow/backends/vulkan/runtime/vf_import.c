#include "vf_import.h"

/* The smallest of any machine: where a mapping ends within one, all of it is mapped. */
enum { PAGE = 4096 };

static const VkExternalMemoryHandleTypeFlagBits HOST = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
static const VkBufferUsageFlags USAGE = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;

static int takes_host_memory(const vf_device *device) {
  const VkPhysicalDeviceExternalBufferInfo asked = {
      .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO, .usage = USAGE, .handleType = HOST};
  VkExternalBufferProperties has = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
  vf_of(device)->vkGetPhysicalDeviceExternalBufferProperties(device->physical, &asked, &has);
  return (has.externalMemoryProperties.externalMemoryFeatures & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT) != 0;
}

static int can_import(const vf_device *device, uint64_t bytes) {
  return !device->own_memory && device->facts.host_alignment && device->facts.host_alignment <= PAGE && bytes &&
         bytes <= device->facts.most_allocated && (uintptr_t)device->weights % PAGE == 0 &&
         vf_of(device)->vkGetMemoryHostPointerPropertiesEXT && takes_host_memory(device);
}

/* Memory of a sort that the host's writes reach without more ado. */
static VkResult take_memory(vf_device *device, uint32_t allowed, void *host, vf_buffer *out) {
  const vf_functions *f = vf_of(device);
  const VkImportMemoryHostPointerInfoEXT from = {
      .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT, .handleType = HOST, .pHostPointer = host};
  VkMemoryRequirements needs;
  f->vkGetBufferMemoryRequirements(device->device, out->buffer, &needs);
  const VkMemoryAllocateInfo info = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
      .pNext = &from,
      .allocationSize = out->bytes,
      .memoryTypeIndex = vf_memory_type(device, allowed & needs.memoryTypeBits,
                                        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)};
  if (info.memoryTypeIndex == UINT32_MAX || needs.size > out->bytes) return VK_ERROR_INVALID_EXTERNAL_HANDLE;
  VkResult result;
  VF_MADE(result, f->vkAllocateMemory(device->device, &info, NULL, &out->memory), out->memory);
  return result == VK_SUCCESS ? f->vkBindBufferMemory(device->device, out->buffer, out->memory, 0) : result;
}

static VkResult import(vf_device *device, vf_buffer *out) {
  const vf_functions *f = vf_of(device);
  void *host = (void *)(uintptr_t)device->weights; /* which shaders only read */
  VkMemoryHostPointerPropertiesEXT has = {.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
  const VkExternalMemoryBufferCreateInfo imported = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
                                                     .handleTypes = (VkExternalMemoryHandleTypeFlags)HOST};
  const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                   .pNext = &imported,
                                   .size = out->bytes = vf_rounded(device->weights_bytes, PAGE),
                                   .usage = USAGE};
  VkResult result = f->vkGetMemoryHostPointerPropertiesEXT(device->device, HOST, host, &has);
  if (result == VK_SUCCESS)
    VF_MADE(result, f->vkCreateBuffer(device->device, &info, NULL, &out->buffer), out->buffer);
  return result == VK_SUCCESS ? take_memory(device, has.memoryTypeBits, host, out) : result;
}

void vf_import_weights(vf_device *device, vf_buffer *out) {
  if (!can_import(device, vf_rounded(device->weights_bytes, PAGE))) return;
  const VkResult result = import(device, out);
  if (result == VK_SUCCESS) {
    vf_log(device, TVM_FLOW_LOG_INFO, "the weights are read where they are mapped");
    return;
  }
  vf_buffer_free(device, out);
  vf_log(device, TVM_FLOW_LOG_INFO, "the weights are copied: the driver does not take their mapping, VkResult %d",
         (int)result);
}
