#include "device_cpu.h"

#include <string.h>

#include "library.h"
#include "services.h"
#include "tvm_abi.h"

typedef struct {
  flow_context *context;
  const uint8_t *weights;
  uint8_t *arena;                     /* shared: one plan runs at a time */
  uint8_t *prompt[FLOW_MAX_BRANCHES]; /* shared too, because each is as large as an arena */
  uint64_t arena_bytes, prompt_bytes;
  uint32_t branches;
} cpu_device;

typedef struct {
  const cpu_device *device;
  const tvm_flow_library_descriptor *library;
  uint8_t *step_block;    /* of the last step() */
  flow_dltensor *tensors; /* [num_tensors]; those of other devices point nowhere */
  flow_any *args;         /* [num_args] */
} cpu_plan;

static void cpu_close(void *opened) {
  cpu_device *device = opened;
  const flow_host *host = &device->context->host;
  flow_free(host, device->arena);
  for (int i = 0; i < FLOW_MAX_BRANCHES; i++) flow_free(host, device->prompt[i]);
  flow_free(host, device);
}

static tvm_flow_status cpu_open(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error) {
  flow_context *context = info->services->user;
  cpu_device *device = flow_alloc(&context->host, sizeof *device);
  if (!device) return flow_no_memory(error, "the CPU");
  device->context = context;
  device->weights = info->weights;
  device->arena_bytes = info->arena_bytes, device->prompt_bytes = info->prompt_bytes;
  device->branches = info->branches;
  device->arena = flow_alloc(&context->host, info->arena_bytes);
  int whole = device->arena != NULL;
  for (uint32_t i = 0; whole && i < info->branches; i++)
    whole = (device->prompt[i] = flow_alloc(&context->host, info->prompt_bytes)) != NULL;
  *out = device;
  if (whole) return TVM_FLOW_OK;
  cpu_close(device);
  return flow_fail(error, TVM_FLOW_NO_MEMORY,
                   "no memory for an arena of %llu bytes and %u prompts of %llu; free memory",
                   (unsigned long long)info->arena_bytes, info->branches, (unsigned long long)info->prompt_bytes);
}

static void cpu_unbind(void *bound) {
  cpu_plan *plan = bound;
  const flow_host *host = &plan->device->context->host;
  flow_free(host, plan->tensors);
  flow_free(host, plan->args);
  flow_free(host, plan);
}

static void bind_tensor(flow_dltensor *out, const tvm_flow_tensor *tensor) {
  *out = (flow_dltensor){.data = NULL,
                         .device = {.device_type = FLOW_DL_CPU, .device_id = 0},
                         .ndim = tensor->ndim,
                         .dtype = {.code = tensor->dtype_code, .bits = tensor->dtype_bits, .lanes = 1},
                         .shape = (int64_t *)(uintptr_t)tensor->shape,
                         .strides = NULL,
                         .byte_offset = 0};
}

static tvm_flow_status cpu_bind(void *opened, const tvm_flow_device_plan *given, void **out, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = given->library;
  const flow_host *host = &((const cpu_device *)opened)->context->host;
  cpu_plan *plan = flow_alloc(host, sizeof *plan);
  if (plan)
    *plan = (cpu_plan){.device = opened,
                       .library = d,
                       .tensors = flow_alloc(host, d->num_tensors * sizeof *plan->tensors),
                       .args = flow_alloc(host, d->num_args * sizeof *plan->args)};
  if (!plan || !plan->tensors || !plan->args) {
    if (plan) cpu_unbind(plan);
    return flow_no_memory(error, "a plan's tensors");
  }
  for (uint32_t i = 0; i < d->num_tensors; i++) bind_tensor(&plan->tensors[i], &d->tensors[i]);
  for (uint32_t i = 0; i < d->num_args; i++)
    plan->args[i] = (flow_any){
        .type_index = FLOW_TYPE_DLTENSOR_PTR, .zero_padding = 0, {.v_ptr = &plan->tensors[d->args[i]]}};
  *out = plan;
  return TVM_FLOW_OK;
}

static uint8_t *space_of(const cpu_plan *plan, uint8_t space, uint32_t branch) {
  if (space == TVM_FLOW_ARENA) return plan->device->arena;
  if (space == TVM_FLOW_STEP) return plan->step_block;
  if (space == TVM_FLOW_PROMPT) return plan->device->prompt[branch];
  /* Kernels take all tensors by pointers to non-const; the checks saw to it that none writes to the weights. */
  return (uint8_t *)(uintptr_t)plan->device->weights;
}

static uint8_t *address(const cpu_plan *plan, const tvm_flow_tensor *tensor, uint32_t branch) {
  return space_of(plan, tensor->space, branch) + tensor->offset;
}

static tvm_flow_status cpu_step(void *bound, uint32_t branch, const uint8_t *step_block, tvm_flow_error *error) {
  cpu_plan *plan = bound;
  const tvm_flow_library_descriptor *d = plan->library;
  (void)error;
  plan->step_block = (uint8_t *)(uintptr_t)step_block;
  for (uint32_t i = 0; i < d->num_tensors; i++)
    if (d->tensors[i].device == 0) plan->tensors[i].data = address(plan, &d->tensors[i], branch);
  return TVM_FLOW_OK;
}

static tvm_flow_status cpu_write(void *bound, uint32_t tensor, uint32_t branch, const void *host,
                                 tvm_flow_error *error) {
  const cpu_plan *plan = bound;
  const tvm_flow_tensor *t = &plan->library->tensors[tensor];
  (void)error;
  memcpy(address(plan, t, branch), host, (size_t)flow_tensor_bytes(t));
  return TVM_FLOW_OK;
}

static tvm_flow_status cpu_read(void *bound, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error) {
  const cpu_plan *plan = bound;
  const tvm_flow_tensor *t = &plan->library->tensors[tensor];
  (void)error;
  memcpy(host, address(plan, t, branch), (size_t)flow_tensor_bytes(t));
  return TVM_FLOW_OK;
}

static tvm_flow_status kernel_failed(const cpu_plan *plan, const tvm_flow_device_run *run, uint32_t call, int code,
                                     tvm_flow_error *error) {
  const char *message = plan->device->context->message;
  return flow_fail(error, TVM_FLOW_KERNEL_FAILED,
                   "step %u, branch %u, call %u: kernel %s: expected 0, got %d: %s; compile the bundle again",
                   run->step, run->branch, call, plan->library->kernel_names[plan->library->calls[call].kernel], code,
                   message[0] ? message : "it gave no message");
}

static tvm_flow_status cpu_run(void *bound, const tvm_flow_device_run *run, tvm_flow_error *error) {
  const cpu_plan *plan = bound;
  const tvm_flow_library_descriptor *d = plan->library;
  for (uint32_t i = run->first; i < run->first + run->count; i++) {
    const tvm_flow_call *call = &d->calls[i];
    tvm_flow_status s = flow_check_cancelled(plan->device->context, run->step, run->branch, i, error);
    if (s) return s;
    flow_any result = {.type_index = FLOW_TYPE_NONE, .zero_padding = 0, {.v_int64 = 0}};
    int code = d->kernels[call->kernel](NULL, &plan->args[call->first_arg], (int32_t)call->num_args, &result);
    if (code) return kernel_failed(plan, run, i, code, error);
  }
  return TVM_FLOW_OK;
}

uint64_t flow_cpu_bytes(void) { return flow_rounded(sizeof(cpu_device)); }

uint64_t flow_cpu_plan_bytes(const tvm_flow_library_descriptor *d) {
  return flow_rounded(sizeof(cpu_plan)) + flow_rounded(d->num_tensors * sizeof(flow_dltensor)) +
         flow_rounded(d->num_args * sizeof(flow_any));
}

void flow_cpu_trim(const void *opened) {
  const cpu_device *device = opened;
  flow_system_drop(device->arena, device->arena_bytes);
  for (uint32_t i = 0; i < device->branches; i++) flow_system_drop(device->prompt[i], device->prompt_bytes);
}

void *flow_cpu_tensor(const void *bound, uint32_t tensor) { return ((const cpu_plan *)bound)->tensors[tensor].data; }

const tvm_flow_device_type flow_device_cpu = {.abi = TVM_FLOW_DEVICE_ABI,
                                              .struct_bytes = sizeof(tvm_flow_device_type),
                                              .name = "cpu",
                                              .open = cpu_open,
                                              .close = cpu_close,
                                              .bind = cpu_bind,
                                              .unbind = cpu_unbind,
                                              .step = cpu_step,
                                              .write = cpu_write,
                                              .read = cpu_read,
                                              .run = cpu_run};
