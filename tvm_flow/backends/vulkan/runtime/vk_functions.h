/* Part of Vulkan's interface as this device uses it: see vk_base.h.
 *
 * Copyright 2015-2023 The Khronos Group Inc.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TVM_FLOW_VK_FUNCTIONS_H
#define TVM_FLOW_VK_FUNCTIONS_H

#include "vk_objects.h"

/* X(result, name, (parameters)): what a loader has before there is an instance, of an instance, and of a device. The
 * driver's own memory is its own affair: every allocator is NULL. */
#define VF_GLOBAL_FUNCTIONS(X) \
  X(VkResult, vkEnumerateInstanceVersion, (uint32_t *pApiVersion)) \
  X(VkResult, vkCreateInstance, (const VkInstanceCreateInfo *pCreateInfo, const void *allocator, \
      VkInstance *pInstance))

#define VF_INSTANCE_FUNCTIONS(X) \
  X(void, vkDestroyInstance, (VkInstance instance, const void *allocator)) \
  X(VkResult, vkEnumeratePhysicalDevices, (VkInstance instance, uint32_t *pPhysicalDeviceCount, \
      VkPhysicalDevice *pPhysicalDevices)) \
  X(void, vkGetPhysicalDeviceProperties, (VkPhysicalDevice physicalDevice, VkPhysicalDeviceProperties *pProperties)) \
  X(void, vkGetPhysicalDeviceProperties2, (VkPhysicalDevice physicalDevice, \
      VkPhysicalDeviceProperties2 *pProperties)) \
  X(void, vkGetPhysicalDeviceFeatures2, (VkPhysicalDevice physicalDevice, VkPhysicalDeviceFeatures2 *pFeatures)) \
  X(void, vkGetPhysicalDeviceMemoryProperties, (VkPhysicalDevice physicalDevice, \
      VkPhysicalDeviceMemoryProperties *pMemoryProperties)) \
  X(void, vkGetPhysicalDeviceExternalBufferProperties, (VkPhysicalDevice physicalDevice, \
      const VkPhysicalDeviceExternalBufferInfo *pExternalBufferInfo, \
      VkExternalBufferProperties *pExternalBufferProperties)) \
  X(void, vkGetPhysicalDeviceQueueFamilyProperties, (VkPhysicalDevice physicalDevice, \
      uint32_t *pQueueFamilyPropertyCount, VkQueueFamilyProperties *pQueueFamilyProperties)) \
  X(VkResult, vkEnumerateDeviceExtensionProperties, (VkPhysicalDevice physicalDevice, const char *pLayerName, \
      uint32_t *pPropertyCount, VkExtensionProperties *pProperties)) \
  X(VkResult, vkCreateDevice, (VkPhysicalDevice physicalDevice, const VkDeviceCreateInfo *pCreateInfo, \
      const void *allocator, VkDevice *pDevice)) \
  X(PFN_vkVoidFunction, vkGetDeviceProcAddr, (VkDevice device, const char *pName))

#define VF_DEVICE_FUNCTIONS(X) \
  X(void, vkDestroyDevice, (VkDevice device, const void *allocator)) \
  X(void, vkGetDeviceQueue, (VkDevice device, uint32_t queueFamilyIndex, uint32_t queueIndex, VkQueue *pQueue)) \
  X(VkResult, vkDeviceWaitIdle, (VkDevice device)) \
  X(VkResult, vkCreateBuffer, (VkDevice device, const VkBufferCreateInfo *pCreateInfo, const void *allocator, \
      VkBuffer *pBuffer)) \
  X(void, vkDestroyBuffer, (VkDevice device, VkBuffer buffer, const void *allocator)) \
  X(void, vkGetBufferMemoryRequirements, (VkDevice device, VkBuffer buffer, \
      VkMemoryRequirements *pMemoryRequirements)) \
  X(VkResult, vkAllocateMemory, (VkDevice device, const VkMemoryAllocateInfo *pAllocateInfo, const void *allocator, \
      VkDeviceMemory *pMemory)) \
  X(void, vkFreeMemory, (VkDevice device, VkDeviceMemory memory, const void *allocator)) \
  X(VkResult, vkBindBufferMemory, (VkDevice device, VkBuffer buffer, VkDeviceMemory memory, \
      VkDeviceSize memoryOffset)) \
  X(VkResult, vkMapMemory, (VkDevice device, VkDeviceMemory memory, VkDeviceSize offset, VkDeviceSize size, \
      VkMemoryMapFlags flags, void **ppData)) \
  X(VkResult, vkCreateShaderModule, (VkDevice device, const VkShaderModuleCreateInfo *pCreateInfo, \
      const void *allocator, VkShaderModule *pShaderModule)) \
  X(void, vkDestroyShaderModule, (VkDevice device, VkShaderModule shaderModule, const void *allocator)) \
  X(VkResult, vkCreatePipelineCache, (VkDevice device, const VkPipelineCacheCreateInfo *pCreateInfo, \
      const void *allocator, VkPipelineCache *pPipelineCache)) \
  X(void, vkDestroyPipelineCache, (VkDevice device, VkPipelineCache pipelineCache, const void *allocator)) \
  X(VkResult, vkGetPipelineCacheData, (VkDevice device, VkPipelineCache pipelineCache, size_t *pDataSize, \
      void *pData)) \
  X(VkResult, vkCreateComputePipelines, (VkDevice device, VkPipelineCache pipelineCache, uint32_t createInfoCount, \
      const VkComputePipelineCreateInfo *pCreateInfos, const void *allocator, VkPipeline *pPipelines)) \
  X(void, vkDestroyPipeline, (VkDevice device, VkPipeline pipeline, const void *allocator)) \
  X(VkResult, vkCreateDescriptorSetLayout, (VkDevice device, const VkDescriptorSetLayoutCreateInfo *pCreateInfo, \
      const void *allocator, VkDescriptorSetLayout *pSetLayout)) \
  X(void, vkDestroyDescriptorSetLayout, (VkDevice device, VkDescriptorSetLayout descriptorSetLayout, \
      const void *allocator)) \
  X(VkResult, vkCreatePipelineLayout, (VkDevice device, const VkPipelineLayoutCreateInfo *pCreateInfo, \
      const void *allocator, VkPipelineLayout *pPipelineLayout)) \
  X(void, vkDestroyPipelineLayout, (VkDevice device, VkPipelineLayout pipelineLayout, const void *allocator)) \
  X(VkResult, vkCreateDescriptorPool, (VkDevice device, const VkDescriptorPoolCreateInfo *pCreateInfo, \
      const void *allocator, VkDescriptorPool *pDescriptorPool)) \
  X(void, vkDestroyDescriptorPool, (VkDevice device, VkDescriptorPool descriptorPool, const void *allocator)) \
  X(VkResult, vkAllocateDescriptorSets, (VkDevice device, const VkDescriptorSetAllocateInfo *pAllocateInfo, \
      VkDescriptorSet *pDescriptorSets)) \
  X(void, vkUpdateDescriptorSets, (VkDevice device, uint32_t descriptorWriteCount, \
      const VkWriteDescriptorSet *pDescriptorWrites, uint32_t descriptorCopyCount, \
      const void *pDescriptorCopies)) \
  X(VkResult, vkCreateCommandPool, (VkDevice device, const VkCommandPoolCreateInfo *pCreateInfo, \
      const void *allocator, VkCommandPool *pCommandPool)) \
  X(void, vkDestroyCommandPool, (VkDevice device, VkCommandPool commandPool, const void *allocator)) \
  X(VkResult, vkAllocateCommandBuffers, (VkDevice device, const VkCommandBufferAllocateInfo *pAllocateInfo, \
      VkCommandBuffer *pCommandBuffers)) \
  X(void, vkFreeCommandBuffers, (VkDevice device, VkCommandPool commandPool, uint32_t commandBufferCount, \
      const VkCommandBuffer *pCommandBuffers)) \
  X(VkResult, vkBeginCommandBuffer, (VkCommandBuffer commandBuffer, const VkCommandBufferBeginInfo *pBeginInfo)) \
  X(VkResult, vkEndCommandBuffer, (VkCommandBuffer commandBuffer)) \
  X(void, vkCmdBindPipeline, (VkCommandBuffer commandBuffer, VkPipelineBindPoint pipelineBindPoint, \
      VkPipeline pipeline)) \
  X(void, vkCmdBindDescriptorSets, (VkCommandBuffer commandBuffer, VkPipelineBindPoint pipelineBindPoint, \
      VkPipelineLayout layout, uint32_t firstSet, uint32_t descriptorSetCount, \
      const VkDescriptorSet *pDescriptorSets, uint32_t dynamicOffsetCount, const uint32_t *pDynamicOffsets)) \
  X(void, vkCmdPushConstants, (VkCommandBuffer commandBuffer, VkPipelineLayout layout, \
      VkShaderStageFlags stageFlags, uint32_t offset, uint32_t size, const void *pValues)) \
  X(void, vkCmdDispatch, (VkCommandBuffer commandBuffer, uint32_t groupCountX, uint32_t groupCountY, \
      uint32_t groupCountZ)) \
  X(void, vkCmdPipelineBarrier, (VkCommandBuffer commandBuffer, VkPipelineStageFlags srcStageMask, \
      VkPipelineStageFlags dstStageMask, VkDependencyFlags dependencyFlags, uint32_t memoryBarrierCount, \
      const VkMemoryBarrier *pMemoryBarriers, uint32_t bufferMemoryBarrierCount, \
      const void *pBufferMemoryBarriers, uint32_t imageMemoryBarrierCount, \
      const void *pImageMemoryBarriers)) \
  X(void, vkCmdCopyBuffer, (VkCommandBuffer commandBuffer, VkBuffer srcBuffer, VkBuffer dstBuffer, \
      uint32_t regionCount, const VkBufferCopy *pRegions)) \
  X(VkResult, vkCreateFence, (VkDevice device, const VkFenceCreateInfo *pCreateInfo, const void *allocator, \
      VkFence *pFence)) \
  X(void, vkDestroyFence, (VkDevice device, VkFence fence, const void *allocator)) \
  X(VkResult, vkResetFences, (VkDevice device, uint32_t fenceCount, const VkFence *pFences)) \
  X(VkResult, vkWaitForFences, (VkDevice device, uint32_t fenceCount, const VkFence *pFences, VkBool32 waitAll, \
      uint64_t timeout)) \
  X(VkResult, vkQueueSubmit, (VkQueue queue, uint32_t submitCount, const VkSubmitInfo *pSubmits, VkFence fence)) \
  X(VkResult, vkCreateQueryPool, (VkDevice device, const VkQueryPoolCreateInfo *pCreateInfo, const void *allocator, \
      VkQueryPool *pQueryPool)) \
  X(void, vkDestroyQueryPool, (VkDevice device, VkQueryPool queryPool, const void *allocator)) \
  X(void, vkCmdResetQueryPool, (VkCommandBuffer commandBuffer, VkQueryPool queryPool, uint32_t firstQuery, \
      uint32_t queryCount)) \
  X(void, vkCmdWriteTimestamp, (VkCommandBuffer commandBuffer, VkPipelineStageFlagBits pipelineStage, \
      VkQueryPool queryPool, uint32_t query)) \
  X(VkResult, vkGetQueryPoolResults, (VkDevice device, VkQueryPool queryPool, uint32_t firstQuery, \
      uint32_t queryCount, size_t dataSize, void *pData, VkDeviceSize stride, VkQueryResultFlags flags))

/* NULL where the device lacks their extension. */
#define VF_EXTENSION_FUNCTIONS(X) \
  X(VkResult, vkGetMemoryHostPointerPropertiesEXT, (VkDevice device, VkExternalMemoryHandleTypeFlagBits handleType, \
      const void *pHostPointer, VkMemoryHostPointerPropertiesEXT *pMemoryHostPointerProperties))

#define VF_MEMBER(result, name, parameters) result(*name) parameters;
typedef struct {
  VF_GLOBAL_FUNCTIONS(VF_MEMBER)
  VF_INSTANCE_FUNCTIONS(VF_MEMBER)
  VF_DEVICE_FUNCTIONS(VF_MEMBER)
  VF_EXTENSION_FUNCTIONS(VF_MEMBER)
} vf_functions;

#endif
