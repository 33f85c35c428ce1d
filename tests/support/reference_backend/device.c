/* The reference backend's part of the runtime: functions over plain pointers, in memory that is not the CPU's. */
#include <stddef.h>
#include <string.h>

#include "tvm_flow_device.h"

typedef struct {
  tvm_flow_device_open_info info;
  const tvm_flow_services *services;
} device;

typedef struct {
  device *owner;
  const tvm_flow_library_descriptor *library;
  uint8_t *arena;
  uint8_t *step;
  uint8_t *prompts; /* one after the other */
  uint64_t prompt_bytes;
} bound;

typedef void (*function)(void *const *args);

enum { ALIGNMENT = 64 };

static void *take(const device *d, uint64_t bytes) { return d->services->allocate(d->services->user, bytes + 1, ALIGNMENT); }

static void give(const device *d, void *memory) {
  if (memory) d->services->release(d->services->user, memory);
}

static tvm_flow_status no_memory(tvm_flow_error *error) {
  static const char text[] = "device reference: no memory; free memory";
  if (error) {
    error->status = TVM_FLOW_NO_MEMORY;
    memcpy(error->message, text, sizeof text);
  }
  return TVM_FLOW_NO_MEMORY;
}

static tvm_flow_status open_device(const tvm_flow_device_open_info *info, void **out, tvm_flow_error *error) {
  const tvm_flow_services *services = info->services;
  device *d = services->allocate(services->user, sizeof *d, ALIGNMENT);
  if (!d) return no_memory(error);
  *d = (device){.info = *info, .services = services};
  *out = d;
  return TVM_FLOW_OK;
}

static void close_device(void *opened) { give(opened, opened); }

static void unbind(void *plan) {
  bound *b = plan;
  give(b->owner, b->arena);
  give(b->owner, b->step);
  give(b->owner, b->prompts);
  give(b->owner, b);
}

static tvm_flow_status bind(void *opened, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error) {
  device *d = opened;
  const tvm_flow_device_row *row = &plan->library->devices[plan->row];
  bound *b = take(d, sizeof *b);
  if (!b) return no_memory(error);
  *b = (bound){.owner = d, .library = plan->library, .prompt_bytes = row->prompt_bytes};
  b->arena = take(d, row->arena_bytes);
  b->step = take(d, plan->library->step_bytes);
  b->prompts = take(d, row->prompt_bytes * d->info.branches);
  if (!b->arena || !b->step || !b->prompts) {
    unbind(b);
    return no_memory(error);
  }
  *out = b;
  return TVM_FLOW_OK;
}

static uint8_t *place(const bound *b, uint32_t tensor, uint32_t branch) {
  const tvm_flow_tensor *t = &b->library->tensors[tensor];
  switch (t->space) {
    case TVM_FLOW_ARENA:
      return b->arena + t->offset;
    case TVM_FLOW_WEIGHTS: /* read only; the kernels see to that */
      return (uint8_t *)(uintptr_t)b->owner->info.weights + t->offset;
    case TVM_FLOW_STEP:
      return b->step + t->offset;
    default:
      return b->prompts + branch * b->prompt_bytes + t->offset;
  }
}

static size_t bytes_of(const bound *b, uint32_t tensor) {
  const tvm_flow_tensor *t = &b->library->tensors[tensor];
  size_t bytes = t->dtype_bits / 8u;
  for (int i = 0; i < t->ndim; i++) bytes *= (size_t)t->shape[i];
  return bytes;
}

static tvm_flow_status step(void *plan, uint32_t branch, const uint8_t *block, tvm_flow_error *error) {
  bound *b = plan;
  (void)branch, (void)error;
  memcpy(b->step, block, (size_t)b->library->step_bytes);
  return TVM_FLOW_OK;
}

static tvm_flow_status write_tensor(void *plan, uint32_t tensor, uint32_t branch, const void *host, tvm_flow_error *e) {
  (void)e;
  memcpy(place(plan, tensor, branch), host, bytes_of(plan, tensor));
  return TVM_FLOW_OK;
}

static tvm_flow_status read_tensor(void *plan, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error) {
  (void)error;
  memcpy(host, place(plan, tensor, branch), bytes_of(plan, tensor));
  return TVM_FLOW_OK;
}

static tvm_flow_status run(void *plan, const tvm_flow_device_run *what, tvm_flow_error *error) {
  enum { MOST = 64 };
  bound *b = plan;
  const tvm_flow_segment *segment = &b->library->segments[what->segment];
  const function *functions = segment->payload;
  (void)error;
  for (uint32_t i = what->first; i < what->first + what->count; i++) {
    const tvm_flow_call *call = &b->library->calls[i];
    void *args[MOST] = {NULL};
    for (uint32_t a = 0; a < call->num_args && a < MOST; a++)
      args[a] = place(b, b->library->args[call->first_arg + a], what->branch);
    functions[i - segment->first_call](args);
  }
  return TVM_FLOW_OK;
}

extern const tvm_flow_device_type tvm_flow_device_reference;
const tvm_flow_device_type tvm_flow_device_reference = {.abi = TVM_FLOW_DEVICE_ABI,
                                                        .struct_bytes = sizeof(tvm_flow_device_type),
                                                        .name = "reference",
                                                        .open = open_device,
                                                        .close = close_device,
                                                        .bind = bind,
                                                        .unbind = unbind,
                                                        .step = step,
                                                        .write = write_tensor,
                                                        .read = read_tensor,
                                                        .run = run};
