#include "toy_device.h"

#include <stdio.h>
#include <string.h>

#include "tvm_abi.h"

enum { MAX_ARGS = 8, MAX_BRANCHES = 2, UNWRITTEN = 0xee };

_Atomic toy_function toy_failing;
atomic_int toy_held;

typedef struct {
  const tvm_flow_services *services;
  uint8_t *weights, *arena, *prompt[MAX_BRANCHES];
} toy;

typedef struct {
  toy *device;
  tvm_flow_device_plan plan;
  uint8_t *step;
} toy_plan;

static tvm_flow_status fail(const char *function, tvm_flow_status status, tvm_flow_error *error) {
  if (error) {
    error->status = status;
    snprintf(error->message, sizeof error->message, "toy: %s: expected to work, was told to fail", function);
  }
  return status;
}

static uint8_t *take(const tvm_flow_services *services, uint64_t bytes) {
  uint8_t *memory = services->allocate(services->user, bytes, 64);
  return memory ? memset(memory, UNWRITTEN, bytes) : NULL;
}

static void toy_close(void *opened) {
  toy *device = opened;
  const tvm_flow_services *services = device->services;
  services->release(services->user, device->weights);
  services->release(services->user, device->arena);
  for (int i = 0; i < MAX_BRANCHES; i++) services->release(services->user, device->prompt[i]);
  services->release(services->user, device);
  toy_held--;
}

static tvm_flow_status toy_open(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error) {
  if (toy_failing == TOY_OPEN) return fail("open", TVM_FLOW_KERNEL_FAILED, error);
  const tvm_flow_services *services = info->services;
  toy *device = services->allocate(services->user, sizeof *device, 64);
  if (!device) return fail("memory", TVM_FLOW_NO_MEMORY, error);
  toy_held++;
  *device = (toy){.services = services};
  device->weights = take(services, info->weights_bytes);
  device->arena = take(services, info->arena_bytes);
  int whole = device->weights && device->arena;
  for (uint32_t i = 0; i < info->branches; i++)
    whole = (device->prompt[i] = take(services, info->prompt_bytes)) != NULL && whole;
  if (!whole) {
    toy_close(device);
    return fail("memory", TVM_FLOW_NO_MEMORY, error);
  }
  memcpy(device->weights, info->weights, info->weights_bytes);
  services->log(services->user, TVM_FLOW_LOG_INFO, "toy: open");
  *out = device;
  return TVM_FLOW_OK;
}

static void toy_unbind(void *bound) {
  toy_plan *p = bound;
  const tvm_flow_services *services = p->device->services;
  services->release(services->user, p->step);
  services->release(services->user, p);
  toy_held--;
}

static tvm_flow_status toy_bind(void *opened, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error) {
  if (toy_failing == TOY_BIND) return fail("bind", TVM_FLOW_KERNEL_FAILED, error);
  toy *device = opened;
  toy_plan *p = device->services->allocate(device->services->user, sizeof *p, 64);
  if (!p) return fail("memory", TVM_FLOW_NO_MEMORY, error);
  toy_held++;
  *p = (toy_plan){.device = device, .plan = *plan, .step = take(device->services, plan->library->step_bytes)};
  *out = p;
  if (p->step) return TVM_FLOW_OK;
  toy_unbind(p);
  return fail("memory", TVM_FLOW_NO_MEMORY, error);
}

static void *place(const toy_plan *p, uint32_t tensor, uint32_t branch) {
  const tvm_flow_tensor *t = &p->plan.library->tensors[tensor];
  uint8_t *const space[] = {p->device->arena, p->device->weights, p->step, p->device->prompt[branch]};
  return space[t->space] + t->offset;
}

static size_t bytes_of(const toy_plan *p, uint32_t tensor) {
  const tvm_flow_tensor *t = &p->plan.library->tensors[tensor];
  size_t bytes = t->dtype_bits / 8u;
  for (int i = 0; i < t->ndim; i++) bytes *= (size_t)t->shape[i];
  return bytes;
}

static tvm_flow_status toy_step(void *bound, uint32_t branch, const uint8_t *step_block, tvm_flow_error *error) {
  const toy_plan *p = bound;
  if (toy_failing == TOY_STEP) return fail("step", TVM_FLOW_KERNEL_FAILED, error);
  (void)branch;
  memcpy(p->step, step_block, p->plan.library->step_bytes);
  return TVM_FLOW_OK;
}

static tvm_flow_status toy_write(void *bound, uint32_t tensor, uint32_t branch, const void *host,
                                 tvm_flow_error *error) {
  if (toy_failing == TOY_WRITE) return fail("write", TVM_FLOW_KERNEL_FAILED, error);
  memcpy(place(bound, tensor, branch), host, bytes_of(bound, tensor));
  return TVM_FLOW_OK;
}

static tvm_flow_status toy_read(void *bound, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error) {
  if (toy_failing == TOY_READ) return fail("read", TVM_FLOW_KERNEL_FAILED, error);
  memcpy(host, place(bound, tensor, branch), bytes_of(bound, tensor));
  return TVM_FLOW_OK;
}

static int run_call(const toy_plan *p, const tvm_flow_segment *segment, uint32_t row, uint32_t branch) {
  const tvm_flow_library_descriptor *d = p->plan.library;
  const tvm_flow_call *call = &d->calls[row];
  const tvm_flow_kernel *kernels = segment->payload;
  flow_dltensor tensors[MAX_ARGS] = {{0}};
  flow_any args[MAX_ARGS], result = {0};
  if (call->num_args > MAX_ARGS || segment->payload_bytes < (call->kernel + 1) * sizeof *kernels) return -1;
  for (uint32_t i = 0; i < call->num_args; i++) {
    uint32_t tensor = d->args[call->first_arg + i];
    if (d->tensors[tensor].device != p->plan.row) return -2;
    tensors[i].data = place(p, tensor, branch);
    args[i] = (flow_any){.type_index = FLOW_TYPE_DLTENSOR_PTR, .zero_padding = 0, {.v_ptr = &tensors[i]}};
  }
  return kernels[call->kernel](NULL, args, (int32_t)call->num_args, &result);
}

static tvm_flow_status toy_run(void *bound, const tvm_flow_device_run *run, tvm_flow_error *error) {
  const toy_plan *p = bound;
  if (toy_failing == TOY_RUN || run->count == 0) return fail("run", TVM_FLOW_KERNEL_FAILED, error);
  const tvm_flow_segment *segment = &p->plan.library->segments[run->segment];
  for (uint32_t i = run->first; i < run->first + run->count; i++)
    if (run_call(p, segment, i, run->branch)) return fail("kernel", TVM_FLOW_KERNEL_FAILED, error);
  return TVM_FLOW_OK;
}

#define TOY_TYPE(called)                                                                                       \
  {TVM_FLOW_DEVICE_ABI, sizeof(tvm_flow_device_type), called, toy_open, toy_close, toy_bind, toy_unbind, toy_step, \
   toy_write, toy_read, toy_run}
static const tvm_flow_device_type types[TOY_DEVICES] = {TOY_TYPE("other"), TOY_TYPE("toy")};
const tvm_flow_device_type *const toy_devices[TOY_DEVICES] = {&types[0], &types[1]};
