/* The part of VK_ARM_tensors and VK_ARM_data_graph that this device uses, and how layers are linked, as Khronos'
 * registry has them: see vk_base.h. Debian's header is older than the extensions, so that no test compares these with
 * an original; Arm's emulation layer is what they were tried with.
 *
 * Copyright 2015-2026 The Khronos Group Inc.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TVM_FLOW_VK_ARM_H
#define TVM_FLOW_VK_ARM_H

#include "vk_functions.h"

typedef uint64_t VkFlags64;
typedef int32_t VkFormat;
#if UINTPTR_MAX == UINT64_MAX
typedef struct vk_object_s *VkTensorARM, *VkTensorViewARM, *VkDataGraphPipelineSessionARM;
#else
typedef uint64_t VkTensorARM, VkTensorViewARM, VkDataGraphPipelineSessionARM;
#endif

enum { VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO = 47, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO = 48,
  VK_STRUCTURE_TYPE_MEMORY_REQUIREMENTS_2 = 1000146003, VK_STRUCTURE_TYPE_TENSOR_CREATE_INFO_ARM = 1000460000,
  VK_STRUCTURE_TYPE_TENSOR_VIEW_CREATE_INFO_ARM = 1000460001,
  VK_STRUCTURE_TYPE_BIND_TENSOR_MEMORY_INFO_ARM = 1000460002,
  VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET_TENSOR_ARM = 1000460003,
  VK_STRUCTURE_TYPE_TENSOR_DESCRIPTION_ARM = 1000460006,
  VK_STRUCTURE_TYPE_TENSOR_MEMORY_REQUIREMENTS_INFO_ARM = 1000460007,
  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TENSOR_FEATURES_ARM = 1000460009,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_CREATE_INFO_ARM = 1000507000,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_CREATE_INFO_ARM = 1000507001,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_RESOURCE_INFO_ARM = 1000507002,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_CONSTANT_ARM = 1000507003,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_MEMORY_REQUIREMENTS_INFO_ARM = 1000507004,
  VK_STRUCTURE_TYPE_BIND_DATA_GRAPH_PIPELINE_SESSION_MEMORY_INFO_ARM = 1000507005,
  VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DATA_GRAPH_FEATURES_ARM = 1000507006,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SHADER_MODULE_CREATE_INFO_ARM = 1000507007,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_BIND_POINT_REQUIREMENTS_INFO_ARM = 1000507011,
  VK_STRUCTURE_TYPE_DATA_GRAPH_PIPELINE_SESSION_BIND_POINT_REQUIREMENT_ARM = 1000507012 };

enum { VK_DESCRIPTOR_TYPE_TENSOR_ARM = 1000460000, VK_PIPELINE_BIND_POINT_DATA_GRAPH_ARM = 1000507000,
  VK_QUEUE_DATA_GRAPH_BIT_ARM = 1024, VK_SHADER_STAGE_ALL = 0x7fffffff, VK_TENSOR_TILING_LINEAR_ARM = 1,
  VK_TENSOR_USAGE_DATA_GRAPH_BIT_ARM = 32, VK_DATA_GRAPH_PIPELINE_SESSION_BIND_POINT_TYPE_MEMORY_ARM = 0,
  VK_PIPELINE_STAGE_ALL_COMMANDS_BIT = 0x10000, VK_ACCESS_MEMORY_READ_BIT = 0x8000,
  VK_ACCESS_MEMORY_WRITE_BIT = 0x10000,
  VK_FORMAT_R8_UINT = 13, VK_FORMAT_R8_SINT = 14, VK_FORMAT_R16_UINT = 74, VK_FORMAT_R16_SINT = 75,
  VK_FORMAT_R16_SFLOAT = 76, VK_FORMAT_R32_UINT = 98, VK_FORMAT_R32_SINT = 99, VK_FORMAT_R32_SFLOAT = 100,
  VK_FORMAT_R8_BOOL_ARM = 1000460000, VK_LAYER_LINK_INFO = 0 };

/* Layers: each is told what comes next. */
typedef PFN_vkVoidFunction (*PFN_vkGetInstanceProcAddr)(VkInstance instance, const char *pName);
typedef PFN_vkVoidFunction (*PFN_vkGetDeviceProcAddr)(VkDevice device, const char *pName);
typedef struct VkLayerInstanceLink {
  struct VkLayerInstanceLink *pNext;
  PFN_vkGetInstanceProcAddr pfnNextGetInstanceProcAddr, pfnNextGetPhysicalDeviceProcAddr;
} VkLayerInstanceLink;
typedef struct VkLayerDeviceLink {
  struct VkLayerDeviceLink *pNext;
  PFN_vkGetInstanceProcAddr pfnNextGetInstanceProcAddr;
  PFN_vkGetDeviceProcAddr pfnNextGetDeviceProcAddr;
} VkLayerDeviceLink;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  int32_t function;
  union { VkLayerInstanceLink *pLayerInfo; struct { void *a, *b; } room; } u;
} VkLayerInstanceCreateInfo;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  int32_t function;
  union { VkLayerDeviceLink *pLayerInfo; void *room; } u;
} VkLayerDeviceCreateInfo;

typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 tensorNonPacked, shaderTensorAccess, shaderStorageTensorArrayDynamicIndexing,
      shaderStorageTensorArrayNonUniformIndexing, descriptorBindingStorageTensorUpdateAfterBind, tensors;
} VkPhysicalDeviceTensorFeaturesARM;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 dataGraph, dataGraphUpdateAfterBind, dataGraphSpecializationConstants, dataGraphDescriptorBuffer,
      dataGraphShaderModule;
} VkPhysicalDeviceDataGraphFeaturesARM;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkMemoryRequirements memoryRequirements;
} VkMemoryRequirements2;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  int32_t tiling;
  VkFormat format;
  uint32_t dimensionCount;
  const int64_t *pDimensions, *pStrides;
  VkFlags64 usage;
} VkTensorDescriptionARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkFlags64 flags;
  const VkTensorDescriptionARM *pDescription;
  VkSharingMode sharingMode;
  uint32_t queueFamilyIndexCount;
  const uint32_t *pQueueFamilyIndices;
} VkTensorCreateInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkFlags64 flags;
  VkTensorARM tensor;
  VkFormat format;
} VkTensorViewCreateInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkTensorARM tensor;
} VkTensorMemoryRequirementsInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkTensorARM tensor;
  VkDeviceMemory memory;
  VkDeviceSize memoryOffset;
} VkBindTensorMemoryInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  uint32_t tensorViewCount;
  const VkTensorViewARM *pTensorViews;
} VkWriteDescriptorSetTensorARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  uint32_t id;
  const void *pConstantData;
} VkDataGraphPipelineConstantARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  uint32_t descriptorSet, binding, arrayElement;
} VkDataGraphPipelineResourceInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkShaderModule module;
  const char *pName;
  const void *pSpecializationInfo;
  uint32_t constantCount;
  const VkDataGraphPipelineConstantARM *pConstants;
} VkDataGraphPipelineShaderModuleCreateInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkFlags64 flags;
  VkPipelineLayout layout;
  uint32_t resourceInfoCount;
  const VkDataGraphPipelineResourceInfoARM *pResourceInfos;
} VkDataGraphPipelineCreateInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkFlags64 flags;
  VkPipeline dataGraphPipeline;
} VkDataGraphPipelineSessionCreateInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkDataGraphPipelineSessionARM session;
} VkDataGraphPipelineSessionBindPointRequirementsInfoARM;
typedef struct {
  VkStructureType sType;
  void *pNext;
  int32_t bindPoint, bindPointType;
  uint32_t numObjects;
} VkDataGraphPipelineSessionBindPointRequirementARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkDataGraphPipelineSessionARM session;
  int32_t bindPoint;
  uint32_t objectIndex;
} VkDataGraphPipelineSessionMemoryRequirementsInfoARM;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkDataGraphPipelineSessionARM session;
  int32_t bindPoint;
  uint32_t objectIndex;
  VkDeviceMemory memory;
  VkDeviceSize memoryOffset;
} VkBindDataGraphPipelineSessionMemoryInfoARM;

#endif
