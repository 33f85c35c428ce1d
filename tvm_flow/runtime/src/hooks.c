#include "hooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tvm_abi.h"

static _Thread_local flow_context *current;
static _Thread_local int inside_task;

flow_context *flow_context_enter(flow_context *context) {
  flow_context *before = current;
  current = context;
  return before;
}

typedef struct {
  flow_context *context;
  int (*task)(int task_id, void *group, void *data);
  void *data;
} launch;

static int run_task(int id, int count, void *data) {
  const launch *l = data;
  flow_parallel_group group = {.sync_handle = NULL, .num_task = count};
  flow_context *before = flow_context_enter(l->context);
  inside_task++;
  int code = l->task(id, &group, l->data);
  inside_task--;
  flow_context_enter(before);
  return code;
}

/* A loop inside a task runs on the task's own thread: the pool serves one loop at a time. */
static int parallel_launch(int (*task)(int task_id, void *group, void *data), void *data, int num_tasks) {
  launch l = {.context = current, .task = task, .data = data};
  int pooled = current && !inside_task;
  int count = num_tasks > 0 ? num_tasks : pooled ? flow_pool_tasks(current->pool) : 1;
  if (pooled) return flow_pool_run(current->pool, run_task, &l, count);
  int failure = 0;
  for (int id = 0; id < count; id++) {
    int code = run_task(id, count, &l);
    if (code) failure = code;
  }
  return failure;
}

static void append(char *buffer, size_t bytes, const char *text) {
  size_t used = strlen(buffer);
  if (text) snprintf(buffer + used, bytes - used, "%s", text);
}

static void raise_error(const char *kind, const char **parts, int32_t num_parts) {
  flow_context *context = current;
  if (!context) return;
  pthread_mutex_lock(&context->lock);
  if (context->message[0] == 0) {
    append(context->message, sizeof context->message, kind ? kind : "error");
    append(context->message, sizeof context->message, ": ");
    for (int32_t i = 0; i < num_parts; i++) append(context->message, sizeof context->message, parts[i]);
  }
  pthread_mutex_unlock(&context->lock);
}

/* Kernels answer a null pointer with a bare -1, so the reason is left here. */
static void *alloc_workspace(int device_type, int device_id, uint64_t bytes, int dtype_code, int dtype_bits) {
  char size[32];
  const char *parts[] = {size, " bytes of workspace"};
  (void)device_type, (void)device_id, (void)dtype_code, (void)dtype_bits;
  void *memory;
  if (bytes <= SIZE_MAX / 2 && posix_memalign(&memory, 64, (size_t)(bytes / 64 + 1) * 64) == 0) return memory;
  snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
  raise_error("MemoryError", parts, 2);
  return NULL;
}

static int free_workspace(int device_type, int device_id, void *pointer) {
  (void)device_type, (void)device_id;
  free(pointer);
  return 0;
}

/* Writes only what differs: a handle that opens while another runs the same library must not touch the table. */
#define SET_ONCE(slot, function)                                                                              \
  do {                                                                                                        \
    __typeof__(slot) seen = __atomic_load_n(&(slot), __ATOMIC_ACQUIRE);                                       \
    while (seen != (function) &&                                                                              \
           !__atomic_compare_exchange_n(&(slot), &seen, function, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {   \
    }                                                                                                         \
  } while (0)

void flow_hooks_fill(tvm_flow_hooks *hooks) {
  SET_ONCE(hooks->parallel_launch, parallel_launch);
  SET_ONCE(hooks->alloc_workspace, alloc_workspace);
  SET_ONCE(hooks->free_workspace, free_workspace);
  SET_ONCE(hooks->raise, raise_error);
}
