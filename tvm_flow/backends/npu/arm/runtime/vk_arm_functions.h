/* Functions of VK_ARM_tensors and VK_ARM_data_graph: see vk_arm.h.
 *
 * Copyright 2015-2026 The Khronos Group Inc.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TVM_FLOW_VK_ARM_FUNCTIONS_H
#define TVM_FLOW_VK_ARM_FUNCTIONS_H

#include "vk_arm.h"

#define NPU_FUNCTIONS(X) \
  X(VkResult, vkCreateTensorARM, (VkDevice device, const VkTensorCreateInfoARM *pCreateInfo, const void *allocator, \
      VkTensorARM *pTensor)) \
  X(void, vkDestroyTensorARM, (VkDevice device, VkTensorARM tensor, const void *allocator)) \
  X(VkResult, vkCreateTensorViewARM, (VkDevice device, const VkTensorViewCreateInfoARM *pCreateInfo, \
      const void *allocator, VkTensorViewARM *pView)) \
  X(void, vkDestroyTensorViewARM, (VkDevice device, VkTensorViewARM tensorView, const void *allocator)) \
  X(void, vkGetTensorMemoryRequirementsARM, (VkDevice device, const VkTensorMemoryRequirementsInfoARM *pInfo, \
      VkMemoryRequirements2 *pMemoryRequirements)) \
  X(VkResult, vkBindTensorMemoryARM, (VkDevice device, uint32_t bindInfoCount, \
      const VkBindTensorMemoryInfoARM *pBindInfos)) \
  X(VkResult, vkCreateDataGraphPipelinesARM, (VkDevice device, const void *deferredOperation, \
      VkPipelineCache pipelineCache, uint32_t createInfoCount, const VkDataGraphPipelineCreateInfoARM *pCreateInfos, \
      const void *allocator, VkPipeline *pPipelines)) \
  X(VkResult, vkCreateDataGraphPipelineSessionARM, (VkDevice device, \
      const VkDataGraphPipelineSessionCreateInfoARM *pCreateInfo, const void *allocator, \
      VkDataGraphPipelineSessionARM *pSession)) \
  X(void, vkDestroyDataGraphPipelineSessionARM, (VkDevice device, VkDataGraphPipelineSessionARM session, \
      const void *allocator)) \
  X(VkResult, vkGetDataGraphPipelineSessionBindPointRequirementsARM, (VkDevice device, \
      const VkDataGraphPipelineSessionBindPointRequirementsInfoARM *pInfo, uint32_t *pBindPointRequirementCount, \
      VkDataGraphPipelineSessionBindPointRequirementARM *pBindPointRequirements)) \
  X(void, vkGetDataGraphPipelineSessionMemoryRequirementsARM, (VkDevice device, \
      const VkDataGraphPipelineSessionMemoryRequirementsInfoARM *pInfo, VkMemoryRequirements2 *pMemoryRequirements)) \
  X(VkResult, vkBindDataGraphPipelineSessionMemoryARM, (VkDevice device, uint32_t bindInfoCount, \
      const VkBindDataGraphPipelineSessionMemoryInfoARM *pBindInfos)) \
  X(void, vkCmdDispatchDataGraphARM, (VkCommandBuffer commandBuffer, VkDataGraphPipelineSessionARM session, \
      const void *pInfo))

#define NPU_MEMBER(result, name, parameters) result(*name) parameters;
typedef struct {
  NPU_FUNCTIONS(NPU_MEMBER)
} npu_functions;

#endif
