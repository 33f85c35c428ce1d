/* Descriptor sets of calls, made once at bind, and their commands. */
#include "vf_bound.h"

/* Sets of a branch, and the descriptors in them. */
static void count_sets(vf_bound *bound, uint32_t *descriptors) {
  for (uint32_t i = 0; i < bound->plan.library->num_segments; i++) {
    const tvm_flow_segment *segment = &bound->plan.library->segments[i];
    if (!vf_is_ours(&bound->plan, segment)) continue;
    for (uint32_t c = segment->first_call; c < segment->first_call + segment->num_calls; c++) {
      uint32_t count;
      const vf_dispatch *d = vf_first_dispatch(bound, c, &count);
      bound->first_set[c] = bound->num_sets;
      bound->num_sets += count;
      for (uint32_t j = 0; j < count; j++)
        *descriptors += vf_count_bits(bound->payload.pipelines[d[j].pipeline].bindings);
    }
  }
}

static VkResult make_pool(vf_bound *bound, uint32_t descriptors) {
  const vf_device *device = bound->plan.device;
  const uint32_t branches = device->branches;
  const VkDescriptorPoolSize size = {.type = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                     .descriptorCount = descriptors ? branches * descriptors : 1};
  const VkDescriptorPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                           .maxSets = branches * bound->num_sets,
                                           .poolSizeCount = 1,
                                           .pPoolSizes = &size};
  VkResult result;
  VF_MADE(result, vf_of(device)->vkCreateDescriptorPool(device->device, &info, NULL, &bound->pool), bound->pool);
  return result;
}

/* Exactly the bindings of the layout: there are drivers that fail at others. */
static void write_set(const vf_bound *bound, const vf_placed *placed, VkDescriptorSet set) {
  VkDescriptorBufferInfo parts[VF_MOST_ARGS];
  VkWriteDescriptorSet writes[VF_MOST_ARGS];
  uint32_t count = 0;
  for (uint32_t i = 0; i < VF_MOST_ARGS; i++) {
    const vf_range *r = &placed->bindings[i];
    if (!r->buffer) continue;
    parts[count] = (VkDescriptorBufferInfo){.buffer = r->buffer, .offset = r->begin, .range = r->end - r->begin};
    writes[count] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                           .dstSet = set,
                                           .dstBinding = i,
                                           .descriptorCount = 1,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .pBufferInfo = &parts[count]};
    count++;
  }
  vf_of(bound->plan.device)->vkUpdateDescriptorSets(bound->plan.device->device, count, writes, 0, NULL);
}

static const vf_compiled *compiled_of(const vf_bound *bound, const vf_dispatch *dispatch) {
  return &bound->pipelines.compiled[bound->pipelines.taken[dispatch->pipeline]];
}

static tvm_flow_status make_set(vf_bound *bound, uint32_t call, const vf_dispatch *dispatch, uint32_t branch,
                                VkDescriptorSet *out, tvm_flow_error *error) {
  const VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                            .descriptorPool = bound->pool,
                                            .descriptorSetCount = 1,
                                            .pSetLayouts = &compiled_of(bound, dispatch)->set};
  vf_placed placed;
  tvm_flow_status s = vf_place(bound, call, dispatch, branch, &placed, error);
  if (s) return s;
  VkResult result = vf_of(bound->plan.device)->vkAllocateDescriptorSets(bound->plan.device->device, &info, out);
  if (result == VK_SUCCESS) write_set(bound, &placed, *out);
  return vf_answer(error, result, "descriptor sets");
}

static tvm_flow_status make_sets_of(vf_bound *bound, const tvm_flow_segment *segment, uint32_t branch,
                                    tvm_flow_error *error) {
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t c = segment->first_call; !s && c < segment->first_call + segment->num_calls; c++) {
    uint32_t count;
    const vf_dispatch *d = vf_first_dispatch(bound, c, &count);
    VkDescriptorSet *sets = &bound->sets[branch * bound->num_sets + bound->first_set[c]];
    for (uint32_t i = 0; !s && i < count; i++) s = make_set(bound, c, &d[i], branch, &sets[i], error);
  }
  return s;
}

tvm_flow_status vf_make_sets(vf_bound *bound, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = bound->plan.library;
  uint32_t descriptors = 0;
  bound->first_set = vf_take(bound->plan.device, d->num_calls * sizeof *bound->first_set, "descriptor sets", error);
  if (!bound->first_set) return TVM_FLOW_NO_MEMORY;
  count_sets(bound, &descriptors);
  const uint64_t all = (uint64_t)bound->plan.device->branches * bound->num_sets;
  bound->sets = vf_take(bound->plan.device, all * sizeof *bound->sets, "descriptor sets", error);
  if (!bound->sets) return TVM_FLOW_NO_MEMORY;
  tvm_flow_status s = vf_answer(error, make_pool(bound, descriptors), "descriptor sets");
  for (uint32_t branch = 0; branch < bound->plan.device->branches; branch++)
    for (uint32_t i = 0; !s && i < d->num_segments; i++)
      if (vf_is_ours(&bound->plan, &d->segments[i])) s = make_sets_of(bound, &d->segments[i], branch, error);
  return s;
}

/* What was touched since the last barrier. */
typedef struct {
  vf_range ranges[256];
  uint32_t count;
} touched;

static int meets(const vf_range *a, const vf_range *b) {
  return a->buffer == b->buffer && a->begin < b->end && b->begin < a->end && (a->access | b->access) & VF_WRITE;
}

static void barrier(const vf_bound *bound, VkCommandBuffer commands, VkPipelineStageFlags from,
                    VkPipelineStageFlags to, VkAccessFlags written, VkAccessFlags next) {
  const VkMemoryBarrier memory = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = written, .dstAccessMask = next};
  vf_of(bound->plan.device)->vkCmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

/* A barrier where one of `args` meets what is still in flight, and a list that has them. */
static void wait_for(const vf_bound *bound, VkCommandBuffer commands, const vf_range *args, uint32_t count,
                     touched *flying) {
  int must = flying->count + count > sizeof flying->ranges / sizeof *flying->ranges;
  for (uint32_t i = 0; !must && i < flying->count; i++)
    for (uint32_t j = 0; !must && j < count; j++) must = meets(&flying->ranges[i], &args[j]);
  if (must) {
    barrier(bound, commands, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
            VK_ACCESS_SHADER_WRITE_BIT, VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    flying->count = 0;
  }
  for (uint32_t j = 0; j < count; j++) flying->ranges[flying->count++] = args[j];
}

static tvm_flow_status record_call(const vf_bound *bound, uint32_t call, uint32_t branch, VkCommandBuffer commands,
                                   touched *flying, tvm_flow_error *error) {
  const vf_functions *f = vf_of(bound->plan.device);
  uint32_t count;
  const vf_dispatch *d = vf_first_dispatch(bound, call, &count);
  const VkDescriptorSet *sets = &bound->sets[branch * bound->num_sets + bound->first_set[call]];
  for (uint32_t i = 0; i < count; i++) {
    const vf_compiled *compiled = compiled_of(bound, &d[i]);
    vf_placed placed;
    tvm_flow_status s = vf_place(bound, call, &d[i], branch, &placed, error);
    if (s) return s;
    wait_for(bound, commands, placed.args, d[i].num_args, flying);
    f->vkCmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, compiled->pipeline);
    f->vkCmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, compiled->layout, 0, 1, &sets[i], 0, NULL);
    if (d[i].num_args)
      f->vkCmdPushConstants(commands, compiled->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, 4 * d[i].num_args, placed.at);
    f->vkCmdDispatch(commands, d[i].grid[0], d[i].grid[1], d[i].grid[2]);
  }
  return TVM_FLOW_OK;
}

/* What ran before has ended, and was waited for, but its writes must be made visible once more: to kernels here, and
 * after the last one to the host and to copies. */
tvm_flow_status vf_record(const vf_plan *plan, const tvm_flow_device_run *what, VkCommandBuffer commands,
                          tvm_flow_error *error) {
  const vf_bound *bound = (const vf_bound *)plan;
  const VkPipelineStageFlags compute = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, transfer = VK_PIPELINE_STAGE_TRANSFER_BIT;
  touched flying = {.count = 0};
  tvm_flow_status s = TVM_FLOW_OK;
  barrier(bound, commands, compute | transfer, compute, VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
          VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
  for (uint32_t c = what->first; !s && c < what->first + what->count; c++)
    s = record_call(bound, c, what->branch, commands, &flying, error);
  barrier(bound, commands, compute, transfer | VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_SHADER_WRITE_BIT,
          VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_HOST_READ_BIT);
  return s;
}
