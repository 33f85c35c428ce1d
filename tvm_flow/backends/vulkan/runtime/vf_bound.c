#include "vf_bound.h"

#include <time.h>

#include "vf_cache.h"
#include "vf_weights.h"

const vf_dispatch *vf_first_dispatch(const vf_bound *bound, uint32_t call, uint32_t *count) {
  const vf_kernel *kernel = &bound->payload.kernels[bound->payload.calls[call]];
  *count = kernel->num_dispatches;
  return &bound->payload.dispatches[kernel->first_dispatch];
}

static vf_range range_of(const vf_bound *bound, uint32_t call, const vf_arg *arg, uint32_t branch) {
  if (arg->position == VF_NONE)
    return (vf_range){bound->scratch.buffer, arg->offset, arg->offset + vf_rounded(arg->bytes, 16), arg->access};
  const tvm_flow_library_descriptor *d = bound->plan.library;
  const uint32_t tensor = d->args[d->calls[call].first_arg + arg->position];
  const tvm_flow_tensor *t = &d->tensors[tensor];
  const uint64_t bytes = vf_tensor_reach(t);
  uint64_t offset;
  const vf_buffer *buffer = vf_place_of(&bound->plan, tensor, branch, &offset);
  return (vf_range){buffer->buffer, offset, offset + bytes, arg->access};
}

tvm_flow_status vf_place(const vf_bound *bound, uint32_t call, const vf_dispatch *dispatch, uint32_t branch,
                         vf_placed *out, tvm_flow_error *error) {
  const VkPhysicalDeviceLimits *limits = &bound->plan.device->facts.properties.limits;
  const vf_arg *args = &bound->payload.args[dispatch->first_arg];
  *out = (vf_placed){0};
  for (uint32_t i = 0; i < dispatch->num_args; i++) {
    const vf_range own = out->args[i] = range_of(bound, call, &args[i], branch);
    vf_range *all = &out->bindings[args[i].binding];
    if (all->buffer && all->buffer != own.buffer)
      return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "payload, call %u: expected the args of a binding in one space, got "
                     "several; compile the bundle again", call);
    if (!all->buffer) *all = own;
    if (own.begin < all->begin) all->begin = own.begin;
    if (own.end > all->end) all->end = own.end;
  }
  for (vf_range *all = out->bindings; all < out->bindings + VF_MOST_ARGS; all++) {
    if (!all->buffer) continue;
    all->begin -= all->begin % limits->minStorageBufferOffsetAlignment;
    if (all->end - all->begin > limits->maxStorageBufferRange)
      return vf_fail(error, TVM_FLOW_NO_DEVICE, "call %u: expected a device that binds %llu bytes, got %.100s with %u; "
                     "choose another, or compile the bundle for another target", call,
                     (unsigned long long)(all->end - all->begin), bound->plan.device->facts.properties.deviceName,
                     limits->maxStorageBufferRange);
  }
  for (uint32_t i = 0; i < dispatch->num_args; i++)
    out->at[i] = (uint32_t)((out->args[i].begin - out->bindings[args[i].binding].begin) / 4);
  return TVM_FLOW_OK;
}

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* What a driver takes to compile is no part of a run, and is said apart. */
static tvm_flow_status make_pipelines(vf_bound *bound, tvm_flow_error *error) {
  const double start = milliseconds();
  tvm_flow_status s = vf_pipelines_make(bound->plan.device, &bound->payload, &bound->pipelines, error);
  uint32_t made = 0;
  for (uint32_t i = 0; !s && i < bound->payload.header->num_pipelines; i++)
    made += bound->pipelines.compiled[i].pipeline != 0;
  if (!s) vf_log(bound->plan.device, TVM_FLOW_LOG_INFO, "%u pipelines in %.0f ms", made, milliseconds() - start);
  return s;
}

static tvm_flow_status bind_all(vf_bound *bound, tvm_flow_error *error) {
  vf_device *device = bound->plan.device;
  const vf_payload *payload = &bound->payload;
  tvm_flow_status s = vf_payload_read(bound->plan.library, bound->plan.row, &bound->payload, error);
  if (s || !payload->header) return s; /* no calls, so nothing to hold */
  s = vf_pipelines_choose(device, payload, &bound->pipelines, error);
  if (!s) s = vf_plan_open(&bound->plan, error);
  if (!s) s = vf_buffer_make(device, VF_DEVICE, payload->header->scratch_bytes, "scratch", &bound->scratch, error);
  if (!s) s = make_pipelines(bound, error);
  if (!s) s = vf_make_sets(bound, error);
  if (!s) s = vf_record_all(&bound->plan, error);
  if (!s) vf_cache_save(device);
  return s;
}

tvm_flow_status vf_bind(void *opened, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error) {
  vf_bound *bound = vf_take(opened, sizeof *bound, "a plan", error);
  if (!bound) return TVM_FLOW_NO_MEMORY;
  bound->plan = (vf_plan){.device = opened, .library = plan->library, .row = plan->row, .record = vf_record};
  tvm_flow_status s = bind_all(bound, error);
  if (s) vf_unbind(bound);
  else *out = bound;
  return s;
}

void vf_unbind(void *plan) {
  vf_bound *bound = plan;
  vf_device *device = bound->plan.device;
  vf_plan_close(&bound->plan);
  if (bound->pool) vf_of(device)->vkDestroyDescriptorPool(device->device, bound->pool, NULL);
  if (bound->payload.header) vf_pipelines_free(device, &bound->payload, &bound->pipelines);
  vf_buffer_free(device, &bound->scratch);
  vf_give(device, bound->sets);
  vf_give(device, bound->first_set);
  vf_give(device, bound);
}
