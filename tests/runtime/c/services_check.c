/* The services as kernels use them: in a plan with and without a pool, inside a task, and two handles in turn. */
#include <stdio.h>
#include <string.h>

#include "expect.h"
#include "services.h"
#include "tvm_abi.h"

enum { OUTER = 7, INNER = 5 };

/* What a library has. */
static _Thread_local const tvm_flow_services *services;
static const tvm_flow_services *enter(const tvm_flow_services *now) {
  const tvm_flow_services *before = services;
  services = now;
  return before;
}
static int launch(int (*task)(int, void *, void *), void *data, int num_tasks) {
  return services->parallel_launch(services->user, task, data, num_tasks);
}

static int outer_counts[OUTER], inner_counts[OUTER][INNER];

static int num_task(void *group) { return ((flow_parallel_group *)group)->num_task; }

static int inner(int id, void *group, void *data) {
  ((int *)data)[id]++;
  return num_task(group) == INNER ? 0 : -1;
}

static int outer(int id, void *group, void *data) {
  (void)data;
  outer_counts[id]++;
  if (num_task(group) != OUTER) return -2;
  return launch(inner, inner_counts[id], INNER);
}

static int count_tasks(int id, void *group, void *data) {
  if (id == 0) *(int *)data = num_task(group);
  return 0;
}

static int fail(int id, void *group, void *data) {
  const char *parts[] = {"task ", "failed"};
  (void)group, (void)data;
  if (id % 2) services->raise(services->user, "ValueError", parts, 2);
  return id % 2 ? -5 : 0;
}

static void nested(void) {
  memset(outer_counts, 0, sizeof outer_counts);
  memset(inner_counts, 0, sizeof inner_counts);
  EXPECT(launch(outer, NULL, OUTER) == 0);
  for (int i = 0; i < OUTER; i++) {
    EXPECT(outer_counts[i] == 1);
    for (int j = 0; j < INNER; j++) EXPECT(inner_counts[i][j] == 1);
  }
}

static void workspace(void) {
  for (uint64_t bytes = 0; bytes < 300; bytes += 13) {
    char *memory = services->allocate(services->user, bytes, 64);
    EXPECT(memory && (uintptr_t)memory % 64 == 0);
    memset(memory, 1, bytes);
    services->release(services->user, memory);
  }
  EXPECT(services->allocate(services->user, UINT64_MAX, 64) == NULL);
}

/* Also while another handle runs on this thread, whose services come back. */
static void without_pool(void) {
  const flow_host host = flow_host_of(NULL);
  flow_context context;
  int tasks = 0;
  flow_context_open(&context, &host);
  context.enter = enter;
  const tvm_flow_services *before = enter(&context.services);
  EXPECT(services->struct_bytes == sizeof *services);
  EXPECT(launch(count_tasks, &tasks, 0) == 0 && tasks == 1);
  EXPECT(launch(fail, NULL, 4) == -5);
  EXPECT(strcmp(context.message, "ValueError: task failed") == 0);
  nested();
  workspace();
  services->log(services->user, TVM_FLOW_LOG_INFO, "nobody listens");
  EXPECT(enter(before) == &context.services);
  flow_context_close(&context);
}

static void within(uint32_t threads, uint32_t per_thread) {
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {threads, per_thread, NULL, 0, &host};
  const int expected = (int)(threads * per_thread);
  flow_context context;
  int tasks = 0;
  flow_context_open(&context, &host);
  context.enter = enter;
  EXPECT(flow_pool_create(&options, &context.pool, NULL) == TVM_FLOW_OK);
  EXPECT(enter(&context.services) == NULL);
  EXPECT(launch(count_tasks, &tasks, 0) == 0 && tasks == expected);
  EXPECT(launch(count_tasks, &tasks, -1) == 0 && tasks == expected);
  for (int round = 0; round < 50; round++) nested();
  EXPECT(launch(fail, NULL, 9) == -5);
  EXPECT(strcmp(context.message, "ValueError: task failed") == 0);
  context.message[0] = 0;
  workspace();
  EXPECT(strcmp(context.message, "MemoryError: 18446744073709551615 bytes of workspace") == 0);
  const char *more[] = {"a later error"};
  services->raise(services->user, "KeyError", more, 1);
  EXPECT(strncmp(context.message, "MemoryError", 11) == 0);
  without_pool();
  EXPECT(enter(NULL) == &context.services);
  flow_context_close(&context);
}

static void hear(void *user, uint32_t level, const char *message) {
  if (level == TVM_FLOW_LOG_WARNING) snprintf(user, 16, "%s", message);
}

static void logged(void) {
  char heard[16] = "";
  const tvm_flow_options options = {.struct_bytes = sizeof options, .log = hear, .user = heard};
  const flow_host host = flow_host_of(&options);
  flow_context context;
  flow_context_open(&context, &host);
  context.services.log(context.services.user, TVM_FLOW_LOG_INFO, "no");
  context.in_task.log(context.in_task.user, TVM_FLOW_LOG_WARNING, "slow");
  EXPECT(strcmp(heard, "slow") == 0);
  flow_context_close(&context);
}

static void long_messages(void) {
  const flow_host host = flow_host_of(NULL);
  flow_context context;
  char part[200];
  const char *parts[] = {part, NULL, part, part};
  flow_context_open(&context, &host);
  context.enter = enter;
  memset(part, 'x', sizeof part - 1);
  part[sizeof part - 1] = 0;
  enter(&context.services);
  services->raise(services->user, NULL, parts, 4);
  enter(NULL);
  EXPECT(strlen(context.message) == sizeof context.message - 1);
  EXPECT(strncmp(context.message, "error: xxx", 10) == 0);
  flow_context_close(&context);
}

int main(void) {
  without_pool();
  for (uint32_t threads = 1; threads <= 4; threads++) within(threads, 1 + threads % 3);
  long_messages();
  logged();
  puts("ok");
  return 0;
}
