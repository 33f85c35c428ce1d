#include "services.h"

#include <stdio.h>
#include <string.h>

#include "tvm_abi.h"

typedef struct {
  const flow_context *context;
  int (*task)(int task_id, void *group, void *data);
  void *data;
} launch;

static int run_task(int id, int count, void *data) {
  const launch *l = data;
  flow_parallel_group group = {.sync_handle = NULL, .num_task = count};
  const tvm_flow_services *before = l->context->enter(&l->context->in_task);
  int code = l->task(id, &group, l->data);
  l->context->enter(before);
  return code;
}

static int launch_here(void *user, int (*task)(int task_id, void *group, void *data), void *data, int num_tasks) {
  launch l = {.context = user, .task = task, .data = data};
  return flow_run_inline(run_task, &l, num_tasks > 0 ? num_tasks : 1);
}

static int launch_in_pool(void *user, int (*task)(int task_id, void *group, void *data), void *data, int num_tasks) {
  launch l = {.context = user, .task = task, .data = data};
  flow_pool *pool = l.context->pool;
  if (!pool) return launch_here(user, task, data, num_tasks);
  return flow_pool_run(pool, run_task, &l, num_tasks > 0 ? num_tasks : flow_pool_tasks(pool));
}

static void append(char *buffer, size_t bytes, const char *text) {
  size_t used = strlen(buffer);
  if (text) snprintf(buffer + used, bytes - used, "%s", text);
}

static void raise_error(void *user, const char *kind, const char **parts, int32_t num_parts) {
  flow_context *context = user;
  flow_mutex_lock(&context->lock);
  if (context->message[0] == 0) {
    append(context->message, sizeof context->message, kind ? kind : "error");
    append(context->message, sizeof context->message, ": ");
    for (int32_t i = 0; i < num_parts; i++) append(context->message, sizeof context->message, parts[i]);
  }
  flow_mutex_unlock(&context->lock);
}

/* Kernels answer a null pointer with a bare -1, so the reason is left here. */
static void *allocate(void *user, uint64_t bytes, uint64_t alignment) {
  char size[32];
  const char *parts[] = {size, " bytes of workspace"};
  const flow_host *host = &((flow_context *)user)->host;
  void *memory = bytes <= SIZE_MAX / 2 ? host->allocate(host->user, (bytes / 64 + 1) * 64, alignment) : NULL;
  if (memory) return memory;
  snprintf(size, sizeof size, "%llu", (unsigned long long)bytes);
  raise_error(user, "MemoryError", parts, 2);
  return NULL;
}

static void release(void *user, void *memory) {
  flow_free(&((flow_context *)user)->host, memory);
}

static void say(void *user, uint32_t level, const char *message) {
  const flow_host *host = &((flow_context *)user)->host;
  if (host->log) host->log(host->user, level, message);
}

void flow_context_open(flow_context *context, const flow_host *host) {
  *context = (flow_context){.services = {.struct_bytes = sizeof(tvm_flow_services),
                                         .user = context,
                                         .parallel_launch = launch_in_pool,
                                         .allocate = allocate,
                                         .release = release,
                                         .raise = raise_error,
                                         .log = say},
                             .host = *host};
  context->in_task = context->services;
  context->in_task.parallel_launch = launch_here;
  flow_mutex_init(&context->lock);
}

void flow_context_close(flow_context *context) {
  flow_pool_destroy(context->pool);
  flow_mutex_destroy(&context->lock);
}

tvm_flow_status flow_check_cancelled(const flow_context *context, uint32_t step, uint32_t branch, uint32_t call,
                                     tvm_flow_error *error) {
  if (!atomic_load_explicit(&context->cancelled, memory_order_relaxed)) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_CANCELLED, "step %u, branch %u: cancelled before call %u", step, branch, call);
}
