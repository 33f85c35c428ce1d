#include "plan.h"

#include <stdlib.h>
#include <string.h>

void *flow_alloc(uint64_t bytes) {
  if (bytes > SIZE_MAX / 2) return NULL;
  size_t rounded = (size_t)(bytes / 64 + 1) * 64;
  void *memory;
  if (posix_memalign(&memory, 64, rounded) != 0) return NULL;
  return memset(memory, 0, rounded);
}

static void bind_tensor(flow_dltensor *out, const tvm_flow_tensor *tensor, uint8_t *space) {
  *out = (flow_dltensor){.data = space + tensor->offset,
                         .device = {.device_type = FLOW_DL_CPU, .device_id = 0},
                         .ndim = tensor->ndim,
                         .dtype = {.code = tensor->dtype_code, .bits = tensor->dtype_bits, .lanes = 1},
                         .shape = (int64_t *)(uintptr_t)tensor->shape,
                         .strides = NULL,
                         .byte_offset = 0};
}

static void bind_arg(flow_plan *plan, uint32_t arg, flow_dltensor *tensor) {
  plan->args[arg] = (flow_any){.type_index = FLOW_TYPE_DLTENSOR_PTR, .zero_padding = 0, {.v_ptr = tensor}};
  plan->views[arg] = (tvm_flow_view){.data = tensor->data,
                                     .shape = tensor->shape,
                                     .ndim = tensor->ndim,
                                     .dtype_code = tensor->dtype.code,
                                     .dtype_bits = tensor->dtype.bits};
}

static uint32_t first_call(const tvm_flow_library_descriptor *d, flow_part part) {
  return part == FLOW_STEP ? d->num_prologue_calls : 0;
}

static uint32_t end_of_calls(const tvm_flow_library_descriptor *d, flow_part part) {
  return part == FLOW_STEP ? d->num_calls : d->num_prologue_calls;
}

static void note_inputs(const tvm_flow_library_descriptor *d, flow_part part, uint8_t *reads) {
  for (uint32_t row = first_call(d, part); row < end_of_calls(d, part); row++)
    for (uint32_t i = 0; i + 1 < d->calls[row].num_args; i++)
      for (uint32_t input = 0; input < d->num_inputs; input++)
        if (d->args[d->calls[row].first_arg + i] == d->inputs[input]) reads[input] = 1;
}

tvm_flow_status flow_plan_bind(const flow_library *library, uint8_t *arena, uint8_t *prompt, const uint8_t *weights,
                               flow_plan *out, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = library->descriptor;
  *out = (flow_plan){.library = {0},
                     .step_block = flow_alloc(d->step_bytes),
                     .tensors = flow_alloc(d->num_tensors * sizeof *out->tensors),
                     .args = flow_alloc(d->num_args * sizeof *out->args),
                     .views = flow_alloc(d->num_args * sizeof *out->views)};
  if (!out->step_block || !out->tensors || !out->args || !out->views) {
    flow_plan_free(out);
    return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for a plan of %u tensors and %llu step bytes; free memory",
                     d->num_tensors, (unsigned long long)d->step_bytes);
  }
  /* Kernels take all tensors by pointers to non-const; the checks saw to it that none writes to the weights. */
  uint8_t *const space[] = {arena, (uint8_t *)(uintptr_t)weights, out->step_block, prompt};
  for (uint32_t i = 0; i < d->num_tensors; i++)
    bind_tensor(&out->tensors[i], &d->tensors[i], space[d->tensors[i].space]);
  for (uint32_t i = 0; i < d->num_args; i++) bind_arg(out, i, &out->tensors[d->args[i]]);
  note_inputs(d, FLOW_PROLOGUE, out->reads[FLOW_PROLOGUE]);
  note_inputs(d, FLOW_STEP, out->reads[FLOW_STEP]);
  flow_hooks_fill(d->hooks);
  out->library = *library;
  return TVM_FLOW_OK;
}

void flow_plan_use_prompt(flow_plan *plan, uint8_t *prompt) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  for (uint32_t i = 0; i < d->num_tensors; i++)
    if (d->tensors[i].space == TVM_FLOW_PROMPT) plan->tensors[i].data = prompt + d->tensors[i].offset;
  for (uint32_t i = 0; i < d->num_args; i++) plan->views[i].data = plan->tensors[d->args[i]].data;
}

void flow_plan_free(flow_plan *plan) {
  free(plan->step_block);
  free(plan->tensors);
  free(plan->args);
  free(plan->views);
  flow_library_close(&plan->library);
  *plan = (flow_plan){0};
}

static tvm_flow_status kernel_failed(const flow_plan_run *run, uint32_t call, const char *name, int code,
                                     tvm_flow_error *error) {
  const char *message = run->context->message;
  return flow_fail(error, TVM_FLOW_KERNEL_FAILED,
                   "step %u, branch %u, call %u: kernel %s: expected 0, got %d: %s; compile the bundle again",
                   run->step, run->branch, call, name, code, message[0] ? message : "it gave no message");
}

static int trace_call(const flow_plan *plan, const flow_plan_run *run, uint32_t row) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  const tvm_flow_call *call = &d->calls[row];
  const tvm_flow_kernel_call seen = {.step = run->step,
                                     .branch = run->branch,
                                     .call = row,
                                     .num_args = call->num_args,
                                     .kernel = d->kernel_names[call->kernel],
                                     .args = &plan->views[call->first_arg]};
  return run->trace(run->trace_user, &seen);
}

static tvm_flow_status execute(const flow_plan *plan, flow_part part, const flow_plan_run *run,
                               tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  for (uint32_t i = first_call(d, part); i < end_of_calls(d, part); i++) {
    const tvm_flow_call *call = &d->calls[i];
    flow_any result = {.type_index = FLOW_TYPE_NONE, .zero_padding = 0, {.v_int64 = 0}};
    int code = d->kernels[call->kernel](NULL, &plan->args[call->first_arg], (int32_t)call->num_args, &result);
    if (code) return kernel_failed(run, i, d->kernel_names[call->kernel], code, error);
    if (run->trace && trace_call(plan, run, i))
      return flow_fail(error, TVM_FLOW_CANCELLED, "step %u, branch %u, call %u: the trace asked to stop", run->step,
                       run->branch, i);
  }
  return TVM_FLOW_OK;
}

tvm_flow_status flow_plan_execute(const flow_plan *plan, flow_part part, const flow_plan_run *run,
                                  tvm_flow_error *error) {
  cpu_set_t cpus;
  tvm_flow_status status = flow_pool_enter(run->context->pool, &cpus, error);
  if (status) return status;
  flow_context *before = flow_context_enter(run->context);
  run->context->message[0] = 0;
  status = execute(plan, part, run, error);
  flow_context_enter(before);
  flow_pool_leave(run->context->pool, &cpus);
  return status;
}
