#include "vf_pipelines.h"

#include "vf_self_test.h"

static tvm_flow_status check_limits(const vf_device *device, const vf_pipeline *p, tvm_flow_error *error) {
  const VkPhysicalDeviceLimits *limits = &device->facts.properties.limits;
  const uint64_t invocations = (uint64_t)p->local[0] * p->local[1] * p->local[2];
  const struct { const char *what; uint64_t needs, has; } rows[] = {
      {"invocations in a workgroup", invocations, limits->maxComputeWorkGroupInvocations},
      {"invocations along x", p->local[0], limits->maxComputeWorkGroupSize[0]},
      {"invocations along y", p->local[1], limits->maxComputeWorkGroupSize[1]},
      {"invocations along z", p->local[2], limits->maxComputeWorkGroupSize[2]},
      {"bytes of shared memory", p->shared_bytes, limits->maxComputeSharedMemorySize},
      {"buffers of a shader", vf_count_bits(p->bindings), limits->maxPerStageDescriptorStorageBuffers},
      {"bytes of push constants", p->num_args * 4u, limits->maxPushConstantsSize}};
  for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (rows[i].needs > rows[i].has)
      return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device with %llu %s, got %.100s with %llu; choose another "
                     "(TVM_FLOW_VULKAN_DEVICE), or compile the bundle for another target",
                     (unsigned long long)rows[i].needs, rows[i].what, device->facts.properties.deviceName,
                     (unsigned long long)rows[i].has);
  return TVM_FLOW_OK;
}

static tvm_flow_status check(const vf_device *device, const vf_payload *payload, uint32_t row, int *dot,
                             tvm_flow_error *error) {
  const vf_pipeline *p = &payload->pipelines[row];
  const vf_module *m = &payload->modules[p->module];
  tvm_flow_status s = vf_check_module(&device->facts, payload->code + m->first_word, m->words, dot, error);
  return s ? s : check_limits(device, p, error);
}

static tvm_flow_status choose(vf_device *device, const vf_payload *payload, uint32_t row, uint32_t *taken,
                              tvm_flow_error *error) {
  const uint32_t fallback = payload->pipelines[row].fallback;
  int dot = 0;
  tvm_flow_status s = check(device, payload, row, &dot, error);
  *taken = row;
  if (!s && dot) {
    s = vf_self_test(device, error);
    if (!s) s = check(device, payload, row, &dot, error);
  }
  if (s != TVM_FLOW_NO_DEVICE || !dot || fallback == VF_NONE) return s;
  *taken = fallback;
  return check(device, payload, fallback, &dot, error);
}

static tvm_flow_status check_grids(const vf_device *device, const vf_payload *payload, tvm_flow_error *error) {
  const uint32_t *most = device->facts.properties.limits.maxComputeWorkGroupCount;
  for (uint32_t i = 0; i < payload->header->num_dispatches; i++)
    for (int axis = 0; axis < 3; axis++)
      if (payload->dispatches[i].grid[axis] > most[axis])
        return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected a device with %u workgroups along axis %d, got %.100s with "
                       "%u; choose another, or compile the bundle for another target",
                       payload->dispatches[i].grid[axis], axis, device->facts.properties.deviceName, most[axis]);
  return TVM_FLOW_OK;
}

tvm_flow_status vf_pipelines_choose(vf_device *device, const vf_payload *payload, vf_pipelines *out,
                                    tvm_flow_error *error) {
  const uint32_t count = payload->header->num_pipelines;
  tvm_flow_status s = TVM_FLOW_OK;
  out->taken = vf_take(device, count * sizeof *out->taken, "the choice of pipelines", error);
  if (!out->taken) return TVM_FLOW_NO_MEMORY;
  for (uint32_t i = 0; !s && i < count; i++) out->taken[i] = VF_NONE;
  for (uint32_t i = 0; !s && i < payload->header->num_dispatches; i++) {
    const uint32_t row = payload->dispatches[i].pipeline;
    if (out->taken[row] == VF_NONE) s = choose(device, payload, row, &out->taken[row], error);
  }
  return s ? s : check_grids(device, payload, error);
}

static VkResult make_layouts(vf_device *device, const vf_pipeline *row, vf_compiled *out) {
  VkDescriptorSetLayoutBinding bindings[VF_MOST_ARGS];
  uint32_t count = 0;
  for (uint32_t i = 0; i < VF_MOST_ARGS; i++)
    if (row->bindings >> i & 1)
      bindings[count++] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                         .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                                         .descriptorCount = 1,
                                                         .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
  const VkDescriptorSetLayoutCreateInfo set = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                               .bindingCount = count,
                                               .pBindings = bindings};
  const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = 4 * row->num_args};
  const VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                             .setLayoutCount = 1,
                                             .pSetLayouts = &out->set,
                                             .pushConstantRangeCount = row->num_args > 0,
                                             .pPushConstantRanges = &push};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateDescriptorSetLayout(device->device, &set, NULL, &out->set), out->set);
  if (result == VK_SUCCESS)
    VF_MADE(result, vf_of(device)->vkCreatePipelineLayout(device->device, &layout, NULL, &out->layout), out->layout);
  return result;
}

static VkResult make_pipeline(vf_device *device, VkShaderModule module, const vf_pipeline *row,
                              const vf_constant *constants, vf_compiled *out) {
  VkSpecializationMapEntry entries[VF_MOST_ARGS];
  for (uint32_t i = 0; i < row->num_constants; i++)
    entries[i] = (VkSpecializationMapEntry){.constantID = constants[i].id,
                                            .offset = (uint32_t)(i * sizeof *constants + offsetof(vf_constant, value)),
                                            .size = 4};
  const VkSpecializationInfo special = {.mapEntryCount = row->num_constants,
                                        .pMapEntries = entries,
                                        .dataSize = row->num_constants * sizeof *constants,
                                        .pData = constants};
  const VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                            .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                      .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                      .module = module,
                                                      .pName = "main",
                                                      .pSpecializationInfo = row->num_constants ? &special : NULL},
                                            .layout = out->layout,
                                            .basePipelineIndex = -1};
  VkResult result;
  VF_MADE(result,
          vf_of(device)->vkCreateComputePipelines(device->device, device->cache, 1, &info, NULL, &out->pipeline),
          out->pipeline);
  return result;
}

tvm_flow_status vf_compile(vf_device *device, const uint32_t *code, uint32_t words, const vf_pipeline *row,
                           const vf_constant *constants, vf_compiled *out, tvm_flow_error *error) {
  const VkShaderModuleCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = words * (size_t)4, .pCode = code};
  VkShaderModule module;
  VkResult result = make_layouts(device, row, out);
  if (result == VK_SUCCESS) {
    result = vf_of(device)->vkCreateShaderModule(device->device, &info, NULL, &module);
    if (result == VK_SUCCESS) {
      result = make_pipeline(device, module, row, constants, out);
      vf_of(device)->vkDestroyShaderModule(device->device, module, NULL);
    }
  }
  return vf_answer(error, result, "a pipeline");
}

tvm_flow_status vf_pipelines_make(vf_device *device, const vf_payload *payload, vf_pipelines *out,
                                  tvm_flow_error *error) {
  const uint32_t count = payload->header->num_pipelines;
  tvm_flow_status s = TVM_FLOW_OK;
  out->compiled = vf_take(device, count * sizeof *out->compiled, "pipelines", error);
  if (!out->compiled) return TVM_FLOW_NO_MEMORY;
  for (uint32_t i = 0; !s && i < count; i++) {
    const uint32_t row = out->taken[i];
    if (row == VF_NONE || out->compiled[row].pipeline) continue;
    const vf_pipeline *p = &payload->pipelines[row];
    const vf_module *m = &payload->modules[p->module];
    s = vf_compile(device, payload->code + m->first_word, m->words, p, payload->constants + p->first_constant,
                   &out->compiled[row], error);
  }
  return s;
}

void vf_compiled_free(vf_device *device, vf_compiled *compiled) {
  const vf_functions *f = vf_of(device);
  if (compiled->pipeline) f->vkDestroyPipeline(device->device, compiled->pipeline, NULL);
  if (compiled->layout) f->vkDestroyPipelineLayout(device->device, compiled->layout, NULL);
  if (compiled->set) f->vkDestroyDescriptorSetLayout(device->device, compiled->set, NULL);
  *compiled = (vf_compiled){0};
}

void vf_pipelines_free(vf_device *device, const vf_payload *payload, vf_pipelines *pipelines) {
  for (uint32_t i = 0; pipelines->compiled && i < payload->header->num_pipelines; i++)
    vf_compiled_free(device, &pipelines->compiled[i]);
  vf_give(device, pipelines->compiled);
  vf_give(device, pipelines->taken);
  *pipelines = (vf_pipelines){0};
}
