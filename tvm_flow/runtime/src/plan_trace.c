/* What a trace sees of a call, on whatever device it ran. */

#include "device_cpu.h"
#include "plan.h"

enum { ALIGN = 64 };

/* Of another device's arguments only its own spaces have to be fetched. */
static int is_fetched(const tvm_flow_tensor *tensor) {
  return tensor->device != 0 && tensor->space != TVM_FLOW_WEIGHTS && tensor->space != TVM_FLOW_STEP;
}

static uint64_t rounded_bytes(const tvm_flow_tensor *tensor) {
  return (flow_tensor_bytes(tensor) + ALIGN - 1) / ALIGN * ALIGN;
}

static tvm_flow_status fetch(const flow_plan *plan, const uint32_t *args, uint32_t count, uint32_t branch,
                             uint8_t *memory, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  const uint8_t *const shared[] = {[TVM_FLOW_WEIGHTS] = plan->weights, [TVM_FLOW_STEP] = plan->step_block};
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; !s && i < count; i++) {
    const tvm_flow_tensor *t = &d->tensors[args[i]];
    const flow_bound *device = &plan->devices[t->device];
    const void *data = NULL;
    if (is_fetched(t)) {
      s = device->type->read(device->bound, args[i], branch, memory, error);
      data = memory;
      memory += rounded_bytes(t);
    } else {
      data = t->device ? shared[t->space] + t->offset : flow_cpu_tensor(device->bound, args[i]);
    }
    plan->views[i] = (tvm_flow_view){.data = data,
                                     .shape = t->shape,
                                     .ndim = t->ndim,
                                     .dtype_code = t->dtype_code,
                                     .dtype_bits = t->dtype_bits};
  }
  return s;
}

tvm_flow_status flow_plan_trace(const flow_plan *plan, uint32_t segment, uint32_t row, const flow_plan_run *run,
                                flow_timed timed, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  const tvm_flow_call *call = &d->calls[row];
  const uint32_t *args = &d->args[call->first_arg];
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < call->num_args; i++)
    if (is_fetched(&d->tensors[args[i]])) bytes += rounded_bytes(&d->tensors[args[i]]);
  uint8_t *memory = bytes ? flow_alloc(plan->host, bytes) : NULL;
  if (bytes && !memory)
    return flow_no_memory(error, "the trace of a call");
  tvm_flow_status s = fetch(plan, args, call->num_args, run->branch, memory, error);
  const tvm_flow_kernel_call seen = {.step = run->step,
                                     .branch = run->branch,
                                     .call = row,
                                     .num_args = call->num_args,
                                     .kernel = d->kernel_names[call->kernel],
                                     .args = plan->views,
                                     .device = plan->devices[plan->segments[segment].device].type->name,
                                     .started_ns = timed.started_ns,
                                     .ended_ns = timed.ended_ns,
                                     .device_ns = timed.device_ns};
  if (!s && run->trace(run->trace_user, &seen))
    s = flow_fail(error, TVM_FLOW_CANCELLED, "step %u, branch %u, call %u: the trace asked to stop", run->step,
                  run->branch, row);
  flow_free(plan->host, memory);
  return s;
}
