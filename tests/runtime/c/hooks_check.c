/* The hooks as kernels use them: inside a plan, inside a task, and with no plan at all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hooks.h"
#include "tvm_abi.h"

enum { OUTER = 7, INNER = 5 };

static tvm_flow_hooks hooks;
static int outer_counts[OUTER], inner_counts[OUTER][INNER];

#define EXPECT(condition)                                     \
  do {                                                        \
    if (!(condition)) {                                       \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      exit(1);                                                \
    }                                                         \
  } while (0)

static int num_task(void *group) { return ((flow_parallel_group *)group)->num_task; }

static int inner(int id, void *group, void *data) {
  ((int *)data)[id]++;
  return num_task(group) == INNER ? 0 : -1;
}

static int outer(int id, void *group, void *data) {
  (void)data;
  outer_counts[id]++;
  if (num_task(group) != OUTER) return -2;
  return hooks.parallel_launch(inner, inner_counts[id], INNER);
}

static int count_tasks(int id, void *group, void *data) {
  if (id == 0) *(int *)data = num_task(group);
  return 0;
}

static int fail(int id, void *group, void *data) {
  const char *parts[] = {"task ", "failed"};
  (void)group, (void)data;
  if (id % 2) hooks.raise("ValueError", parts, 2);
  return id % 2 ? -5 : 0;
}

static void nested(void) {
  memset(outer_counts, 0, sizeof outer_counts);
  memset(inner_counts, 0, sizeof inner_counts);
  EXPECT(hooks.parallel_launch(outer, NULL, OUTER) == 0);
  for (int i = 0; i < OUTER; i++) {
    EXPECT(outer_counts[i] == 1);
    for (int j = 0; j < INNER; j++) EXPECT(inner_counts[i][j] == 1);
  }
}

static void workspace(void) {
  for (uint64_t bytes = 0; bytes < 300; bytes += 13) {
    char *memory = hooks.alloc_workspace(1, 0, bytes, 2, 32);
    EXPECT(memory && (uintptr_t)memory % 64 == 0);
    memset(memory, 1, bytes);
    EXPECT(hooks.free_workspace(1, 0, memory) == 0);
  }
  EXPECT(hooks.alloc_workspace(1, 0, UINT64_MAX, 2, 32) == NULL);
}

static void within(uint32_t threads, uint32_t per_thread) {
  const flow_pool_options options = {threads, per_thread, NULL, 0};
  const int expected = (int)(threads * per_thread);
  flow_context context = {.pool = NULL, .message = ""};
  int tasks = 0;
  pthread_mutex_init(&context.lock, NULL);
  EXPECT(flow_pool_create(&options, &context.pool, NULL) == TVM_FLOW_OK);
  EXPECT(flow_context_enter(&context) == NULL);
  EXPECT(hooks.parallel_launch(count_tasks, &tasks, 0) == 0 && tasks == expected);
  EXPECT(hooks.parallel_launch(count_tasks, &tasks, -1) == 0 && tasks == expected);
  for (int round = 0; round < 50; round++) nested();
  EXPECT(hooks.parallel_launch(fail, NULL, 9) == -5);
  EXPECT(strcmp(context.message, "ValueError: task failed") == 0);
  context.message[0] = 0;
  workspace();
  EXPECT(strcmp(context.message, "MemoryError: 18446744073709551615 bytes of workspace") == 0);
  const char *more[] = {"a later error"};
  hooks.raise("KeyError", more, 1);
  EXPECT(strncmp(context.message, "MemoryError", 11) == 0);
  EXPECT(flow_context_enter(NULL) == &context);
  flow_pool_destroy(context.pool);
  pthread_mutex_destroy(&context.lock);
}

static void long_messages(void) {
  flow_context context = {.pool = NULL, .message = ""};
  char part[200];
  const char *parts[] = {part, NULL, part, part};
  pthread_mutex_init(&context.lock, NULL);
  memset(part, 'x', sizeof part - 1);
  part[sizeof part - 1] = 0;
  flow_context_enter(&context);
  hooks.raise(NULL, parts, 4);
  flow_context_enter(NULL);
  EXPECT(strlen(context.message) == sizeof context.message - 1);
  EXPECT(strncmp(context.message, "error: xxx", 10) == 0);
  pthread_mutex_destroy(&context.lock);
}

int main(void) {
  flow_hooks_fill(&hooks);
  tvm_flow_hooks before = hooks;
  flow_hooks_fill(&hooks);
  EXPECT(memcmp(&before, &hooks, sizeof hooks) == 0);
  int tasks = 0;
  EXPECT(hooks.parallel_launch(count_tasks, &tasks, 0) == 0 && tasks == 1);
  EXPECT(hooks.parallel_launch(fail, NULL, 4) == -5);
  nested();
  workspace();
  for (uint32_t threads = 1; threads <= 4; threads++) within(threads, 1 + threads % 3);
  long_messages();
  puts("ok");
  return 0;
}
