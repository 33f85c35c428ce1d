#include "graph_run.h"

#include <stdlib.h>
#include <string.h>

#include "../src/library.h"
#include "../src/tvm_abi.h"

/* Of one argument: where it lies in memory after the arena. graph.memory_bytes counts on this. */
_Static_assert(sizeof(flow_dltensor) + sizeof(flow_any) <= 64, "64 bytes hold an argument");

static int launch(void *user, int (*task)(int, void *, void *), void *data, int count) {
  flow_parallel_group group = {NULL, count > 0 ? count : 1};
  int code = 0;
  (void)user;
  for (int id = 0; id < group.num_task && !code; id++) code = task(id, &group, data);
  return code;
}

static void *allocate(void *user, uint64_t bytes, uint64_t alignment) {
  (void)user;
  return aligned_alloc((size_t)alignment, ((size_t)bytes + (size_t)alignment) / (size_t)alignment * (size_t)alignment);
}

static void release(void *user, void *memory) {
  (void)user;
  free(memory);
}

static void raise_nothing(void *user, const char *kind, const char **parts, int32_t num_parts) {
  (void)user, (void)kind, (void)parts, (void)num_parts;
}

static void log_nothing(void *user, uint32_t level, const char *message) { (void)user, (void)level, (void)message; }

static const tvm_flow_services services = {sizeof services, NULL,          launch,     allocate,
                                           release,         raise_nothing, log_nothing};

uint64_t graph_tensor_bytes(const tvm_flow_tensor *tensor) {
  uint64_t bytes = tensor->dtype_bits / 8u;
  for (uint32_t axis = 0; axis < tensor->ndim; axis++) bytes *= (uint64_t)tensor->shape[axis];
  return bytes;
}

/* Kernels take all tensors by pointers to non-const, and write the last one, which is in the arena. */
static void *address(const graph *g, unsigned char *arena, uint32_t tensor) {
  const tvm_flow_tensor *t = &g->library->tensors[tensor];
  return t->space == TVM_FLOW_ARENA ? arena + t->offset : (unsigned char *)(uintptr_t)g->weights + t->offset;
}

static void bind(const graph *g, const tvm_flow_call *call, unsigned char *arena, flow_dltensor *views,
                 flow_any *args) {
  for (uint32_t i = 0; i < call->num_args; i++) {
    const uint32_t tensor = g->library->args[call->first_arg + i];
    const tvm_flow_tensor *t = &g->library->tensors[tensor];
    views[i] = (flow_dltensor){.data = address(g, arena, tensor),
                               .device = {FLOW_DL_CPU, 0},
                               .ndim = t->ndim,
                               .dtype = {t->dtype_code, t->dtype_bits, 1},
                               .shape = (int64_t *)(uintptr_t)t->shape};
    args[i] = (flow_any){.type_index = FLOW_TYPE_DLTENSOR_PTR, .zero_padding = 0, {.v_ptr = &views[i]}};
  }
}

static int run_calls(const graph *g, unsigned char *arena, graph_see see, void *user) {
  const tvm_flow_library_descriptor *d = g->library;
  const uint64_t arguments = (g->memory_bytes - d->arena_bytes) / 64;
  flow_dltensor *views = (void *)(arena + d->arena_bytes);
  flow_any *args = (void *)(views + arguments);
  for (uint32_t i = 0; i < d->num_calls; i++) {
    const tvm_flow_call *call = &d->calls[i];
    flow_any result = {.type_index = FLOW_TYPE_NONE, .zero_padding = 0, {.v_int64 = 0}};
    bind(g, call, arena, views, args);
    if (d->kernels[call->kernel](NULL, args, (int32_t)call->num_args, &result)) return GRAPH_KERNEL_FAILED;
    if (!see) continue;
    void **data = (void **)(void *)args; /* their work is done, and a pointer is smaller */
    for (uint32_t a = 0; a < call->num_args; a++) data[a] = views[a].data;
    if (see(user, g, i, data)) return GRAPH_KERNEL_FAILED;
  }
  return GRAPH_OK;
}

int graph_run(const graph *g, const void *const *inputs, void *const *outputs, void *memory, graph_see see,
              void *user) {
  const tvm_flow_library_descriptor *d = g->library;
  if (flow_check_cpu("", d->cpu_features, NULL)) return GRAPH_WRONG_CPU;
  unsigned char *arena = memory ? memory : allocate(NULL, g->memory_bytes, 64);
  if (!arena) return GRAPH_NO_MEMORY;
  for (uint32_t i = 0; i < d->num_inputs; i++)
    memcpy(address(g, arena, d->inputs[i]), inputs[i], (size_t)graph_tensor_bytes(&d->tensors[d->inputs[i]]));
  const tvm_flow_services *before = d->enter(&services);
  const int code = run_calls(g, arena, see, user);
  d->enter(before);
  for (uint32_t i = 0; !code && i < g->num_outputs; i++)
    memcpy(outputs[i], address(g, arena, g->outputs[i]), (size_t)graph_tensor_bytes(&d->tensors[g->outputs[i]]));
  if (!memory) free(arena);
  return code;
}
