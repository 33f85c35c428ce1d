#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "device_cpu.h"

/* A library without segments has one of the CPU for each part. */
static void take_segments(flow_plan *plan, const tvm_flow_library_descriptor *d) {
  plan->own[FLOW_PROLOGUE] = (tvm_flow_segment){.first_call = 0, .num_calls = d->num_prologue_calls};
  plan->own[FLOW_STEP] =
      (tvm_flow_segment){.first_call = d->num_prologue_calls, .num_calls = d->num_calls - d->num_prologue_calls};
  plan->segments = d->num_segments ? d->segments : plan->own;
  plan->num_segments = d->num_segments ? d->num_segments : 2;
}

static void note_input(const tvm_flow_library_descriptor *d, uint32_t tensor, uint8_t *reads) {
  for (uint32_t input = 0; input < d->num_inputs; input++)
    if (tensor == d->inputs[input]) reads[input] = 1;
}

static void note_inputs(flow_plan *plan, const tvm_flow_library_descriptor *d) {
  for (uint32_t row = 0; row < plan->num_segments; row++) {
    const tvm_flow_segment *s = &plan->segments[row];
    uint8_t *reads = plan->reads[flow_part_of(d, s)];
    for (uint32_t i = 0; i < s->num_copies; i++) note_input(d, d->copies[s->first_copy + i].from, reads);
    for (const tvm_flow_call *call = d->calls + s->first_call; call < d->calls + s->first_call + s->num_calls; call++)
      for (uint32_t i = 0; i + 1 < call->num_args; i++) note_input(d, d->args[call->first_arg + i], reads);
  }
}

static uint64_t staging_bytes(const tvm_flow_library_descriptor *d) {
  uint64_t most = 0;
  for (uint32_t i = 0; i < d->num_copies; i++) {
    const tvm_flow_tensor *from = &d->tensors[d->copies[i].from], *to = &d->tensors[d->copies[i].to];
    const uint64_t bytes = from->device && to->device ? flow_tensor_bytes(from) : 0;
    if (bytes > most) most = bytes;
  }
  return most;
}

static uint64_t most_arguments(const tvm_flow_library_descriptor *d) {
  uint32_t most = 0;
  for (uint32_t i = 0; i < d->num_calls; i++)
    if (d->calls[i].num_args > most) most = d->calls[i].num_args;
  return most;
}

uint64_t flow_plan_bytes(const tvm_flow_library_descriptor *d) {
  const uint64_t staging = staging_bytes(d), views = most_arguments(d) * sizeof(tvm_flow_view);
  return flow_cpu_plan_bytes(d) + flow_rounded(views) + (staging ? flow_rounded(staging) : 0);
}

static tvm_flow_status bind_devices(flow_plan *plan, const tvm_flow_library_descriptor *d, const flow_devices *devices,
                                    tvm_flow_error *error) {
  const uint32_t rows = d->num_devices ? d->num_devices : 1;
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t row = 0; !s && row < rows; row++) {
    const flow_device *device = flow_devices_of(devices, d, row);
    const tvm_flow_device_plan part = {.struct_bytes = sizeof part, .row = row, .library = d};
    plan->devices[row].type = device->type;
    s = device->type->bind(device->device, &part, &plan->devices[row].bound, error);
    plan->num_bound += !s;
  }
  return s;
}

tvm_flow_status flow_plan_bind(const flow_library *library, const flow_devices *devices, const uint8_t *weights,
                               flow_plan *out, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = library->descriptor;
  const uint64_t staging = staging_bytes(d);
  *out = (flow_plan){.host = devices->host,
                     .weights = weights,
                     .step_block = flow_alloc(devices->host, d->step_bytes),
                     .staging = staging ? flow_alloc(devices->host, staging) : NULL,
                     .views = flow_alloc(devices->host, most_arguments(d) * sizeof *out->views)};
  tvm_flow_status s = TVM_FLOW_OK;
  if (!out->step_block || !out->views || (staging && !out->staging))
    s = flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for a plan of %llu step bytes and %llu to copy; free memory",
                  (unsigned long long)d->step_bytes, (unsigned long long)staging);
  take_segments(out, d);
  note_inputs(out, d);
  if (!s) s = bind_devices(out, d, devices, error);
  if (s) flow_plan_free(out);
  else out->library = *library;
  return s;
}

void flow_plan_free(flow_plan *plan) {
  while (plan->num_bound > 0) {
    const flow_bound *device = &plan->devices[--plan->num_bound];
    device->type->unbind(device->bound);
  }
  flow_free(plan->host, plan->step_block);
  flow_free(plan->host, plan->staging);
  flow_free(plan->host, plan->views);
  flow_library_close(&plan->library);
  *plan = (flow_plan){0};
}

tvm_flow_status flow_plan_step(const flow_plan *plan, uint32_t branch, tvm_flow_error *error) {
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t row = 0; !s && row < plan->num_bound; row++)
    s = plan->devices[row].type->step(plan->devices[row].bound, branch, plan->step_block, error);
  return s;
}

/* Inputs and output are the CPU's. */
float *flow_plan_input(const flow_plan *plan, uint32_t input) {
  return flow_cpu_tensor(plan->devices[0].bound, plan->library.descriptor->inputs[input]);
}

const float *flow_plan_output(const flow_plan *plan) {
  return flow_cpu_tensor(plan->devices[0].bound, plan->library.descriptor->output);
}

/* One copy where the CPU is on a side, two through the staging buffer where it is not. */
static tvm_flow_status copy(const flow_plan *plan, const tvm_flow_copy *row, uint32_t branch, tvm_flow_error *error) {
  const tvm_flow_tensor *tensors = plan->library.descriptor->tensors;
  const uint32_t from = tensors[row->from].device, to = tensors[row->to].device;
  void *host = plan->staging;
  if (from == 0) host = flow_cpu_tensor(plan->devices[0].bound, row->from);
  if (to == 0) host = flow_cpu_tensor(plan->devices[0].bound, row->to);
  const flow_bound *source = &plan->devices[from], *target = &plan->devices[to];
  tvm_flow_status s = from ? source->type->read(source->bound, row->from, branch, host, error) : TVM_FLOW_OK;
  return s || !to ? s : target->type->write(target->bound, row->to, branch, host, error);
}

/* A device that lets kernels fail does not see what they raised. */
static void add_raised(const char *raised, tvm_flow_error *error) {
  if (!error || !raised[0]) return;
  size_t used = strlen(error->message);
  snprintf(error->message + used, sizeof error->message - used, ": %s", raised);
}

static tvm_flow_status run_calls(const flow_plan *plan, const tvm_flow_device_run *part, const flow_plan_run *run,
                                 tvm_flow_error *error) {
  const flow_bound *device = &plan->devices[plan->segments[part->segment].device];
  if (!part->count) return TVM_FLOW_OK;
  tvm_flow_status s = flow_check_cancelled(run->context, run->step, run->branch, part->first, error);
  if (!s) s = device->type->run(device->bound, part, error);
  if (s && s != TVM_FLOW_CANCELLED && device != &plan->devices[0]) add_raised(run->context->message, error);
  return s;
}

static tvm_flow_status run_segment(const flow_plan *plan, uint32_t segment, const flow_plan_run *run,
                                   tvm_flow_error *error) {
  const tvm_flow_segment *seen = &plan->segments[segment];
  const uint32_t end = seen->first_call + seen->num_calls;
  tvm_flow_device_run part = {.struct_bytes = sizeof part,
                              .segment = segment,
                              .first = seen->first_call,
                              .count = seen->num_calls,
                              .step = run->step,
                              .branch = run->branch};
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; !s && i < seen->num_copies; i++)
    s = copy(plan, &plan->library.descriptor->copies[seen->first_copy + i], run->branch, error);
  if (!run->trace) return s ? s : run_calls(plan, &part, run, error);
  for (part.count = 1; !s && part.first < end; part.first++) {
    flow_timed timed = {.started_ns = flow_clock_ns(), .ended_ns = 0, .device_ns = TVM_FLOW_NO_CLOCK};
    part.device_ns = &timed.device_ns;
    s = run_calls(plan, &part, run, error);
    timed.ended_ns = flow_clock_ns();
    if (!s) s = flow_plan_trace(plan, segment, part.first, run, timed, error);
  }
  return s;
}

tvm_flow_status flow_plan_execute(const flow_plan *plan, flow_part part, const flow_plan_run *run,
                                  tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  flow_context *context = run->context;
  flow_cpu_set cpus;
  tvm_flow_status s = flow_pool_enter(context->pool, &cpus, error);
  if (s) return s;
  context->enter = d->enter;
  context->message[0] = 0;
  const tvm_flow_services *before = d->enter(&context->services);
  for (uint32_t i = 0; !s && i < plan->num_segments; i++)
    if (flow_part_of(d, &plan->segments[i]) == part) s = run_segment(plan, i, run, error);
  d->enter(before);
  flow_pool_leave(context->pool, &cpus);
  return s;
}
