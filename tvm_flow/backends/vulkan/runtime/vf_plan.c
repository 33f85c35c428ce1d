#include "vf_plan.h"

#include "vf_clock.h"
#include "vf_weights.h"

int vf_is_ours(const vf_plan *plan, const tvm_flow_segment *segment) {
  return segment->device == plan->row && segment->num_calls > 0;
}

const vf_buffer *vf_place_of(const vf_plan *plan, uint32_t tensor, uint32_t branch, uint64_t *offset) {
  const vf_device *device = plan->device;
  const tvm_flow_tensor *t = &plan->library->tensors[tensor];
  *offset = t->offset;
  if (t->space == TVM_FLOW_ARENA) return &device->arena;
  if (t->space == TVM_FLOW_STEP) return &plan->step;
  if (t->space == TVM_FLOW_WEIGHTS) {
    const vf_window *w = vf_weights_find(device, t->offset, t->offset + vf_tensor_reach(t));
    *offset = w->offset + (t->offset - w->begin);
    return &device->blocks[w->block];
  }
  *offset += branch * device->prompt_bytes;
  return &device->prompts;
}

/* Activations and prompts: all plans share them, for one runs at a time. */
static tvm_flow_status make_shared(vf_device *device, tvm_flow_error *error) {
  const uint64_t prompts = device->prompt_bytes * device->branches;
  tvm_flow_status s = TVM_FLOW_OK;
  if (!device->arena.memory)
    s = vf_buffer_make(device, VF_DEVICE, device->arena_bytes, "activations", &device->arena, error);
  if (!s && !device->prompts.memory)
    s = vf_buffer_make(device, VF_DEVICE, prompts, "what the steps of a prompt share", &device->prompts, error);
  return s;
}

tvm_flow_status vf_plan_open(vf_plan *plan, tvm_flow_error *error) {
  tvm_flow_status s = make_shared(plan->device, error);
  if (!s) s = vf_weights_add(plan->device, plan->library, plan->row, error);
  if (!s) s = vf_buffer_make(plan->device, VF_SHARED, plan->library->step_bytes, "a step", &plan->step, error);
  return s;
}

void vf_plan_close(vf_plan *plan) {
  vf_device *device = plan->device;
  const uint32_t rows = device->branches * plan->library->num_segments;
  for (uint32_t i = 0; plan->recorded && i < rows; i++)
    if (plan->recorded[i])
      vf_of(device)->vkFreeCommandBuffers(device->device, device->commands, 1, &plan->recorded[i]);
  vf_buffer_free(device, &plan->step);
  vf_give(device, plan->recorded);
}

static tvm_flow_status record_segment(vf_plan *plan, uint32_t segment, uint32_t branch, tvm_flow_error *error) {
  const tvm_flow_segment *calls = &plan->library->segments[segment];
  const tvm_flow_device_run what = {
      .segment = segment, .first = calls->first_call, .count = calls->num_calls, .branch = branch};
  VkCommandBuffer *out = &plan->recorded[branch * plan->library->num_segments + segment];
  tvm_flow_status s = vf_begin(plan->device, out, error);
  if (s) {
    *out = NULL;
    return s;
  }
  s = plan->record(plan, &what, *out, error);
  return s ? s : vf_answer(error, vf_of(plan->device)->vkEndCommandBuffer(*out), "commands");
}

tvm_flow_status vf_record_all(vf_plan *plan, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = plan->library;
  const uint64_t all = (uint64_t)plan->device->branches * d->num_segments;
  tvm_flow_status s = TVM_FLOW_OK;
  plan->recorded = vf_take(plan->device, all * sizeof *plan->recorded, "commands", error);
  if (!plan->recorded) return TVM_FLOW_NO_MEMORY;
  for (uint32_t branch = 0; branch < plan->device->branches; branch++)
    for (uint32_t i = 0; !s && i < d->num_segments; i++)
      if (vf_is_ours(plan, &d->segments[i])) s = record_segment(plan, i, branch, error);
  return s;
}

tvm_flow_status vf_step(void *opened, uint32_t branch, const uint8_t *block, tvm_flow_error *error) {
  vf_plan *plan = opened;
  (void)branch;
  if (!plan->step.memory) return TVM_FLOW_OK;
  return vf_write(plan->device, &plan->step, 0, block, plan->library->step_bytes, error);
}

tvm_flow_status vf_write_tensor(void *opened, uint32_t tensor, uint32_t branch, const void *host,
                                tvm_flow_error *error) {
  vf_plan *plan = opened;
  uint64_t offset;
  const vf_buffer *to = vf_place_of(plan, tensor, branch, &offset);
  return vf_write(plan->device, to, offset, host, vf_tensor_bytes(&plan->library->tensors[tensor]), error);
}

tvm_flow_status vf_read_tensor(void *opened, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error) {
  vf_plan *plan = opened;
  uint64_t offset;
  const vf_buffer *from = vf_place_of(plan, tensor, branch, &offset);
  return vf_read(plan->device, from, offset, host, vf_tensor_bytes(&plan->library->tensors[tensor]), error);
}

static const char *first_kernel(const vf_plan *plan, uint32_t call) {
  return plan->library->kernel_names[plan->library->calls[call].kernel];
}

/* With `timed` between two readings of the device's clock. */
static tvm_flow_status record_now(const vf_plan *plan, const tvm_flow_device_run *what, int timed,
                                  VkCommandBuffer *out, tvm_flow_error *error) {
  vf_device *device = plan->device;
  tvm_flow_status s = vf_begin(device, out, error);
  if (s) return s;
  if (timed) vf_clock_start(device, *out);
  s = plan->record(plan, what, *out, error);
  if (timed) vf_clock_stop(device, *out);
  if (s) vf_of(device)->vkFreeCommandBuffers(device->device, device->commands, 1, out);
  return s;
}

/* A whole segment was recorded at bind; a part of one, or what is to be timed, is recorded now. */
tvm_flow_status vf_run(void *opened, const tvm_flow_device_run *what, tvm_flow_error *error) {
  vf_plan *plan = opened;
  const tvm_flow_segment *segment = &plan->library->segments[what->segment];
  const char *name = first_kernel(plan, what->first);
  uint64_t *clock = what->struct_bytes >= sizeof *what && plan->device->clock_bits ? what->device_ns : NULL;
  if (!clock && what->first == segment->first_call && what->count == segment->num_calls)
    return vf_submit(plan->device, plan->recorded[what->branch * plan->library->num_segments + what->segment], name,
                     error);
  VkCommandBuffer commands;
  tvm_flow_status s = clock ? vf_clock_open(plan->device, error) : TVM_FLOW_OK;
  if (!s) s = record_now(plan, what, clock != NULL, &commands, error);
  if (!s) s = vf_finish(plan->device, commands, name, error);
  return s || !clock ? s : vf_clock_read(plan->device, clock, error);
}
