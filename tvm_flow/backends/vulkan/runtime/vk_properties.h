/* Part of Vulkan's interface as this device uses it: see vk_base.h.
 *
 * Copyright 2015-2023 The Khronos Group Inc.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef TVM_FLOW_VK_PROPERTIES_H
#define TVM_FLOW_VK_PROPERTIES_H

#include "vk_base.h"

typedef struct {
  VkStructureType sType;
  const void *pNext;
  const char *pApplicationName;
  uint32_t applicationVersion;
  const char *pEngineName;
  uint32_t engineVersion, apiVersion;
} VkApplicationInfo;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkInstanceCreateFlags flags;
  const VkApplicationInfo *pApplicationInfo;
  uint32_t enabledLayerCount;
  const char *const *ppEnabledLayerNames;
  uint32_t enabledExtensionCount;
  const char *const *ppEnabledExtensionNames;
} VkInstanceCreateInfo;
typedef struct {
  char extensionName[256];
  uint32_t specVersion;
} VkExtensionProperties;
typedef struct {
  uint32_t maxImageDimension1D, maxImageDimension2D, maxImageDimension3D, maxImageDimensionCube, maxImageArrayLayers,
      maxTexelBufferElements, maxUniformBufferRange, maxStorageBufferRange, maxPushConstantsSize,
      maxMemoryAllocationCount, maxSamplerAllocationCount;
  VkDeviceSize bufferImageGranularity, sparseAddressSpaceSize;
  uint32_t maxBoundDescriptorSets, maxPerStageDescriptorSamplers, maxPerStageDescriptorUniformBuffers,
      maxPerStageDescriptorStorageBuffers, maxPerStageDescriptorSampledImages, maxPerStageDescriptorStorageImages,
      maxPerStageDescriptorInputAttachments, maxPerStageResources, maxDescriptorSetSamplers,
      maxDescriptorSetUniformBuffers, maxDescriptorSetUniformBuffersDynamic, maxDescriptorSetStorageBuffers,
      maxDescriptorSetStorageBuffersDynamic, maxDescriptorSetSampledImages, maxDescriptorSetStorageImages,
      maxDescriptorSetInputAttachments, maxVertexInputAttributes, maxVertexInputBindings,
      maxVertexInputAttributeOffset, maxVertexInputBindingStride, maxVertexOutputComponents,
      maxTessellationGenerationLevel, maxTessellationPatchSize, maxTessellationControlPerVertexInputComponents,
      maxTessellationControlPerVertexOutputComponents, maxTessellationControlPerPatchOutputComponents,
      maxTessellationControlTotalOutputComponents, maxTessellationEvaluationInputComponents,
      maxTessellationEvaluationOutputComponents, maxGeometryShaderInvocations, maxGeometryInputComponents,
      maxGeometryOutputComponents, maxGeometryOutputVertices, maxGeometryTotalOutputComponents,
      maxFragmentInputComponents, maxFragmentOutputAttachments, maxFragmentDualSrcAttachments,
      maxFragmentCombinedOutputResources, maxComputeSharedMemorySize, maxComputeWorkGroupCount[3],
      maxComputeWorkGroupInvocations, maxComputeWorkGroupSize[3], subPixelPrecisionBits, subTexelPrecisionBits,
      mipmapPrecisionBits, maxDrawIndexedIndexValue, maxDrawIndirectCount;
  float maxSamplerLodBias, maxSamplerAnisotropy;
  uint32_t maxViewports, maxViewportDimensions[2];
  float viewportBoundsRange[2];
  uint32_t viewportSubPixelBits;
  size_t minMemoryMapAlignment;
  VkDeviceSize minTexelBufferOffsetAlignment, minUniformBufferOffsetAlignment, minStorageBufferOffsetAlignment;
  int32_t minTexelOffset;
  uint32_t maxTexelOffset;
  int32_t minTexelGatherOffset;
  uint32_t maxTexelGatherOffset;
  float minInterpolationOffset, maxInterpolationOffset;
  uint32_t subPixelInterpolationOffsetBits, maxFramebufferWidth, maxFramebufferHeight, maxFramebufferLayers;
  VkSampleCountFlags framebufferColorSampleCounts, framebufferDepthSampleCounts, framebufferStencilSampleCounts,
      framebufferNoAttachmentsSampleCounts;
  uint32_t maxColorAttachments;
  VkSampleCountFlags sampledImageColorSampleCounts, sampledImageIntegerSampleCounts, sampledImageDepthSampleCounts,
      sampledImageStencilSampleCounts, storageImageSampleCounts;
  uint32_t maxSampleMaskWords;
  VkBool32 timestampComputeAndGraphics;
  float timestampPeriod;
  uint32_t maxClipDistances, maxCullDistances, maxCombinedClipAndCullDistances, discreteQueuePriorities;
  float pointSizeRange[2], lineWidthRange[2], pointSizeGranularity, lineWidthGranularity;
  VkBool32 strictLines, standardSampleLocations;
  VkDeviceSize optimalBufferCopyOffsetAlignment, optimalBufferCopyRowPitchAlignment, nonCoherentAtomSize;
} VkPhysicalDeviceLimits;
typedef struct {
  VkBool32 residencyStandard2DBlockShape, residencyStandard2DMultisampleBlockShape, residencyStandard3DBlockShape,
      residencyAlignedMipSize, residencyNonResidentStrict;
} VkPhysicalDeviceSparseProperties;
typedef struct {
  uint32_t apiVersion, driverVersion, vendorID, deviceID;
  VkPhysicalDeviceType deviceType;
  char deviceName[256];
  uint8_t pipelineCacheUUID[16];
  VkPhysicalDeviceLimits limits;
  VkPhysicalDeviceSparseProperties sparseProperties;
} VkPhysicalDeviceProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkPhysicalDeviceProperties properties;
} VkPhysicalDeviceProperties2;
typedef struct {
  VkStructureType sType;
  void *pNext;
  uint8_t deviceUUID[16], driverUUID[16], deviceLUID[8];
  uint32_t deviceNodeMask;
  VkBool32 deviceLUIDValid;
} VkPhysicalDeviceIDProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  uint32_t subgroupSize;
  VkShaderStageFlags supportedStages;
  VkSubgroupFeatureFlags supportedOperations;
  VkBool32 quadOperationsInAllStages;
} VkPhysicalDeviceSubgroupProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  uint32_t maxPerSetDescriptors;
  VkDeviceSize maxMemoryAllocationSize;
} VkPhysicalDeviceMaintenance3Properties;
typedef struct {
  uint8_t major, minor, subminor, patch;
} VkConformanceVersion;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkDriverId driverID;
  char driverName[256], driverInfo[256];
  VkConformanceVersion conformanceVersion;
} VkPhysicalDeviceDriverProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkShaderFloatControlsIndependence denormBehaviorIndependence, roundingModeIndependence;
  VkBool32 shaderSignedZeroInfNanPreserveFloat16, shaderSignedZeroInfNanPreserveFloat32,
      shaderSignedZeroInfNanPreserveFloat64, shaderDenormPreserveFloat16, shaderDenormPreserveFloat32,
      shaderDenormPreserveFloat64, shaderDenormFlushToZeroFloat16, shaderDenormFlushToZeroFloat32,
      shaderDenormFlushToZeroFloat64, shaderRoundingModeRTEFloat16, shaderRoundingModeRTEFloat32,
      shaderRoundingModeRTEFloat64, shaderRoundingModeRTZFloat16, shaderRoundingModeRTZFloat32,
      shaderRoundingModeRTZFloat64;
} VkPhysicalDeviceFloatControlsProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 integerDotProduct8BitUnsignedAccelerated, integerDotProduct8BitSignedAccelerated,
      integerDotProduct8BitMixedSignednessAccelerated, integerDotProduct4x8BitPackedUnsignedAccelerated,
      integerDotProduct4x8BitPackedSignedAccelerated, integerDotProduct4x8BitPackedMixedSignednessAccelerated,
      integerDotProduct16BitUnsignedAccelerated, integerDotProduct16BitSignedAccelerated,
      integerDotProduct16BitMixedSignednessAccelerated, integerDotProduct32BitUnsignedAccelerated,
      integerDotProduct32BitSignedAccelerated, integerDotProduct32BitMixedSignednessAccelerated,
      integerDotProduct64BitUnsignedAccelerated, integerDotProduct64BitSignedAccelerated,
      integerDotProduct64BitMixedSignednessAccelerated,
      integerDotProductAccumulatingSaturating8BitUnsignedAccelerated,
      integerDotProductAccumulatingSaturating8BitSignedAccelerated,
      integerDotProductAccumulatingSaturating8BitMixedSignednessAccelerated,
      integerDotProductAccumulatingSaturating4x8BitPackedUnsignedAccelerated,
      integerDotProductAccumulatingSaturating4x8BitPackedSignedAccelerated,
      integerDotProductAccumulatingSaturating4x8BitPackedMixedSignednessAccelerated,
      integerDotProductAccumulatingSaturating16BitUnsignedAccelerated,
      integerDotProductAccumulatingSaturating16BitSignedAccelerated,
      integerDotProductAccumulatingSaturating16BitMixedSignednessAccelerated,
      integerDotProductAccumulatingSaturating32BitUnsignedAccelerated,
      integerDotProductAccumulatingSaturating32BitSignedAccelerated,
      integerDotProductAccumulatingSaturating32BitMixedSignednessAccelerated,
      integerDotProductAccumulatingSaturating64BitUnsignedAccelerated,
      integerDotProductAccumulatingSaturating64BitSignedAccelerated,
      integerDotProductAccumulatingSaturating64BitMixedSignednessAccelerated;
} VkPhysicalDeviceShaderIntegerDotProductProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkDeviceSize minImportedHostPointerAlignment;
} VkPhysicalDeviceExternalMemoryHostPropertiesEXT;
typedef struct {
  VkStructureType sType;
  const void *pNext;
  VkBufferCreateFlags flags;
  VkBufferUsageFlags usage;
  VkExternalMemoryHandleTypeFlagBits handleType;
} VkPhysicalDeviceExternalBufferInfo;
typedef struct {
  VkExternalMemoryFeatureFlags externalMemoryFeatures;
  VkExternalMemoryHandleTypeFlags exportFromImportedHandleTypes, compatibleHandleTypes;
} VkExternalMemoryProperties;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkExternalMemoryProperties externalMemoryProperties;
} VkExternalBufferProperties;
typedef struct {
  VkBool32 robustBufferAccess, fullDrawIndexUint32, imageCubeArray, independentBlend, geometryShader,
      tessellationShader, sampleRateShading, dualSrcBlend, logicOp, multiDrawIndirect, drawIndirectFirstInstance,
      depthClamp, depthBiasClamp, fillModeNonSolid, depthBounds, wideLines, largePoints, alphaToOne, multiViewport,
      samplerAnisotropy, textureCompressionETC2, textureCompressionASTC_LDR, textureCompressionBC,
      occlusionQueryPrecise, pipelineStatisticsQuery, vertexPipelineStoresAndAtomics, fragmentStoresAndAtomics,
      shaderTessellationAndGeometryPointSize, shaderImageGatherExtended, shaderStorageImageExtendedFormats,
      shaderStorageImageMultisample, shaderStorageImageReadWithoutFormat, shaderStorageImageWriteWithoutFormat,
      shaderUniformBufferArrayDynamicIndexing, shaderSampledImageArrayDynamicIndexing,
      shaderStorageBufferArrayDynamicIndexing, shaderStorageImageArrayDynamicIndexing, shaderClipDistance,
      shaderCullDistance, shaderFloat64, shaderInt64, shaderInt16, shaderResourceResidency, shaderResourceMinLod,
      sparseBinding, sparseResidencyBuffer, sparseResidencyImage2D, sparseResidencyImage3D, sparseResidency2Samples,
      sparseResidency4Samples, sparseResidency8Samples, sparseResidency16Samples, sparseResidencyAliased,
      variableMultisampleRate, inheritedQueries;
} VkPhysicalDeviceFeatures;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkPhysicalDeviceFeatures features;
} VkPhysicalDeviceFeatures2;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 storageBuffer16BitAccess, uniformAndStorageBuffer16BitAccess, storagePushConstant16, storageInputOutput16;
} VkPhysicalDevice16BitStorageFeatures;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 storageBuffer8BitAccess, uniformAndStorageBuffer8BitAccess, storagePushConstant8;
} VkPhysicalDevice8BitStorageFeatures;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 shaderFloat16, shaderInt8;
} VkPhysicalDeviceShaderFloat16Int8Features;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 shaderIntegerDotProduct;
} VkPhysicalDeviceShaderIntegerDotProductFeatures;
typedef struct {
  VkStructureType sType;
  void *pNext;
  VkBool32 maintenance4;
} VkPhysicalDeviceMaintenance4Features;
typedef struct {
  VkMemoryPropertyFlags propertyFlags;
  uint32_t heapIndex;
} VkMemoryType;
typedef struct {
  VkDeviceSize size;
  VkMemoryHeapFlags flags;
} VkMemoryHeap;
typedef struct {
  uint32_t memoryTypeCount;
  VkMemoryType memoryTypes[32];
  uint32_t memoryHeapCount;
  VkMemoryHeap memoryHeaps[16];
} VkPhysicalDeviceMemoryProperties;
typedef struct {
  uint32_t width, height, depth;
} VkExtent3D;
typedef struct {
  VkQueueFlags queueFlags;
  uint32_t queueCount, timestampValidBits;
  VkExtent3D minImageTransferGranularity;
} VkQueueFamilyProperties;

#endif
