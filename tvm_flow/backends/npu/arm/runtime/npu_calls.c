/* Tensors and descriptor sets of calls, made once at bind, and their commands. */
#include "npu_bound.h"

static uint32_t tensor_of(const npu_bound *bound, uint32_t call, uint32_t argument) {
  const tvm_flow_library_descriptor *d = bound->plan.library;
  return d->args[d->calls[call].first_arg + argument];
}

/* Only prompts differ between branches: what a tensor is for the others is that of the first. */
static npu_tensor *slot(const npu_bound *bound, uint32_t call, uint32_t argument, uint32_t branch) {
  const tvm_flow_tensor *t = &bound->plan.library->tensors[tensor_of(bound, call, argument)];
  const uint64_t row = t->space == TVM_FLOW_PROMPT ? branch : 0;
  return &bound->tensors[row * bound->num_tensors + bound->first[call] + argument];
}

/* Of a driver's needs: those that the plan's layout, multiples of 64, cannot meet are named. */
static tvm_flow_status check_needs(const npu_bound *bound, const VkMemoryRequirements *needs, const vf_buffer *buffer,
                                   uint64_t offset, tvm_flow_error *error) {
  if (needs->memoryTypeBits >> buffer->type & 1 && offset % needs->alignment == 0 && offset <= buffer->bytes &&
      buffer->bytes - offset >= needs->size)
    return TVM_FLOW_OK;
  return vf_fail(error, TVM_FLOW_NO_DEVICE, "expected tensors to lie in a buffer's memory at %llu, got %.100s, which "
                 "wants %llu bytes at multiples of %llu in sorts %x of memory; report this device",
                 (unsigned long long)offset, bound->plan.device->facts.properties.deviceName,
                 (unsigned long long)needs->size, (unsigned long long)needs->alignment, needs->memoryTypeBits);
}

/* A tensor over the bytes of the plan's: they are of one size, and a graph's has axes of its own. */
static tvm_flow_status make_tensor(const npu_bound *bound, uint32_t call, uint32_t argument, uint32_t branch,
                                   npu_tensor *out, tvm_flow_error *error) {
  const npu_functions *f = &bound->device->f;
  VkDevice device = bound->plan.device->device;
  const VkTensorDescriptionARM description = npu_describe(&npu_graph_of(bound, call)->arguments[argument]);
  const VkTensorCreateInfoARM create = {
      .sType = VK_STRUCTURE_TYPE_TENSOR_CREATE_INFO_ARM, .pDescription = &description};
  uint64_t offset;
  const vf_buffer *buffer = vf_place_of(&bound->plan, tensor_of(bound, call, argument), branch, &offset);
  VkResult result;
  VF_MADE(result, f->vkCreateTensorARM(device, &create, NULL, &out->tensor), out->tensor);
  if (result != VK_SUCCESS) return vf_answer(error, result, "a tensor");
  const VkTensorMemoryRequirementsInfoARM which = {.sType = VK_STRUCTURE_TYPE_TENSOR_MEMORY_REQUIREMENTS_INFO_ARM,
                                                   .tensor = out->tensor};
  VkMemoryRequirements2 needs = {.sType = VK_STRUCTURE_TYPE_MEMORY_REQUIREMENTS_2};
  f->vkGetTensorMemoryRequirementsARM(device, &which, &needs);
  tvm_flow_status s = check_needs(bound, &needs.memoryRequirements, buffer, offset, error);
  if (s) return s;
  const VkBindTensorMemoryInfoARM where = {.sType = VK_STRUCTURE_TYPE_BIND_TENSOR_MEMORY_INFO_ARM,
                                           .tensor = out->tensor,
                                           .memory = buffer->memory,
                                           .memoryOffset = offset};
  const VkTensorViewCreateInfoARM view = {.sType = VK_STRUCTURE_TYPE_TENSOR_VIEW_CREATE_INFO_ARM,
                                          .tensor = out->tensor,
                                          .format = description.format};
  result = f->vkBindTensorMemoryARM(device, 1, &where);
  if (result == VK_SUCCESS) VF_MADE(result, f->vkCreateTensorViewARM(device, &view, NULL, &out->view), out->view);
  return vf_answer(error, result, "a tensor");
}

static void write_tensor(const npu_bound *bound, uint32_t call, uint32_t argument, uint32_t branch) {
  const VkWriteDescriptorSetTensorARM tensor = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET_TENSOR_ARM,
                                                .tensorViewCount = 1,
                                                .pTensorViews = &slot(bound, call, argument, branch)->view};
  const VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                      .pNext = &tensor,
                                      .dstSet = bound->sets[branch * bound->plan.library->num_calls + call],
                                      .dstBinding = npu_graph_of(bound, call)->arguments[argument].binding,
                                      .descriptorCount = 1,
                                      .descriptorType = VK_DESCRIPTOR_TYPE_TENSOR_ARM};
  vf_of(bound->plan.device)->vkUpdateDescriptorSets(bound->plan.device->device, 1, &write, 0, NULL);
}

static tvm_flow_status make_call(npu_bound *bound, uint32_t call, uint32_t branch, tvm_flow_error *error) {
  const vf_device *device = bound->plan.device;
  const npu_graph *graph = npu_graph_of(bound, call);
  const VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                            .descriptorPool = bound->pool,
                                            .descriptorSetCount = 1,
                                            .pSetLayouts = &graph->set};
  VkDescriptorSet *set = &bound->sets[branch * bound->plan.library->num_calls + call];
  VkResult result = vf_of(device)->vkAllocateDescriptorSets(device->device, &info, set);
  tvm_flow_status s = vf_answer(error, result, "descriptor sets");
  for (uint32_t i = 0; !s && i < npu_arguments(graph); i++) {
    npu_tensor *tensor = slot(bound, call, i, branch);
    if (!tensor->tensor) s = make_tensor(bound, call, i, branch, tensor, error);
    if (!s) write_tensor(bound, call, i, branch);
  }
  return s;
}

static VkResult make_pool(npu_bound *bound, uint32_t calls) {
  const vf_device *device = bound->plan.device;
  const VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_TENSOR_ARM,
                                     .descriptorCount = (uint32_t)(device->branches * bound->num_tensors)};
  const VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                           .maxSets = device->branches * calls,
                                           .poolSizeCount = 1,
                                           .pPoolSizes = &size};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateDescriptorPool(device->device, &info, NULL, &bound->pool), bound->pool);
  return result;
}

tvm_flow_status npu_calls_make(npu_bound *bound, tvm_flow_error *error) {
  const vf_device *device = bound->plan.device;
  const uint32_t num_calls = bound->plan.library->num_calls, branches = device->branches;
  uint32_t calls = 0;
  bound->first = vf_take(device, num_calls * sizeof *bound->first, "tensors", error);
  bound->sets = vf_take(device, (uint64_t)branches * num_calls * sizeof *bound->sets, "descriptor sets", error);
  if (!bound->first || !bound->sets) return TVM_FLOW_NO_MEMORY;
  for (uint32_t c = 0; c < num_calls; c++) {
    bound->first[c] = bound->num_tensors;
    bound->num_tensors += bound->graph_of[c] ? npu_arguments(npu_graph_of(bound, c)) : 0;
    calls += bound->graph_of[c] != 0;
  }
  bound->tensors = vf_take(device, branches * bound->num_tensors * sizeof *bound->tensors, "tensors", error);
  if (!bound->tensors) return TVM_FLOW_NO_MEMORY;
  tvm_flow_status s = vf_answer(error, make_pool(bound, calls), "descriptor sets");
  for (uint32_t branch = 0; branch < branches; branch++)
    for (uint32_t c = 0; !s && c < num_calls; c++)
      if (bound->graph_of[c]) s = make_call(bound, c, branch, error);
  return s;
}

void npu_calls_free(npu_bound *bound) {
  const vf_device *device = bound->plan.device;
  if (bound->pool) vf_of(device)->vkDestroyDescriptorPool(device->device, bound->pool, NULL);
  for (uint64_t i = 0; bound->tensors && i < device->branches * bound->num_tensors; i++) {
    if (bound->tensors[i].view) bound->device->f.vkDestroyTensorViewARM(device->device, bound->tensors[i].view, NULL);
    if (bound->tensors[i].tensor) bound->device->f.vkDestroyTensorARM(device->device, bound->tensors[i].tensor, NULL);
  }
  vf_give(device, bound->tensors);
  vf_give(device, bound->sets);
  vf_give(device, bound->first);
}

/* What ran before, graphs or copies, before what comes; after the last one also the host. */
static void barrier(const npu_bound *bound, VkCommandBuffer commands, VkPipelineStageFlags to, VkAccessFlags next) {
  const VkMemoryBarrier memory = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = VK_ACCESS_MEMORY_WRITE_BIT, .dstAccessMask = next};
  vf_of(bound->plan.device)->vkCmdPipelineBarrier(commands, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
                                                  VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | to, 0, 1, &memory, 0, NULL, 0,
                                                  NULL);
}

/* Graphs run one after the other: a session's memory is that of all. */
tvm_flow_status npu_record(const vf_plan *plan, const tvm_flow_device_run *what, VkCommandBuffer commands,
                           tvm_flow_error *error) {
  const npu_bound *bound = (const npu_bound *)plan;
  const vf_functions *f = vf_of(plan->device);
  (void)error;
  for (uint32_t c = what->first; c < what->first + what->count; c++) {
    const npu_graph *graph = npu_graph_of(bound, c);
    barrier(bound, commands, 0, VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT);
    f->vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_DATA_GRAPH_ARM, graph->pipeline);
    f->vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_DATA_GRAPH_ARM, graph->layout, 0, 1,
                               &bound->sets[what->branch * plan->library->num_calls + c], 0, NULL);
    bound->device->f.vkCmdDispatchDataGraphARM(commands, graph->session, NULL);
  }
  barrier(bound, commands, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_HOST_READ_BIT);
  return TVM_FLOW_OK;
}
