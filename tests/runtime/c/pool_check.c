/* Every task id runs exactly once, whoever runs it; failures come back; sleepers are woken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pool.h"

enum { MAX_TASKS = 300, ROUNDS = 3000 };

static int counts[MAX_TASKS];

/* Each id has its own counter, so that ThreadSanitizer sees it if two threads ever share one. */
static int count_task(int id, int count, void *data) {
  counts[id]++;
  return count == *(int *)data ? 0 : -9;
}

static int fail_task(int id, int count, void *data) {
  (void)count;
  return id == *(int *)data ? 40 + id : 0;
}

#define EXPECT(condition)                                             \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition);         \
      exit(1);                                                        \
    }                                                                 \
  } while (0)

static void each_once(flow_pool *pool, int tasks) {
  memset(counts, 0, sizeof counts);
  EXPECT(flow_pool_run(pool, count_task, &tasks, tasks) == 0);
  for (int i = 0; i < MAX_TASKS; i++) EXPECT(counts[i] == (i < tasks));
}

static void check_pool(uint32_t threads) {
  flow_pool *pool;
  EXPECT(flow_pool_create(threads, &pool, NULL) == TVM_FLOW_OK);
  EXPECT(threads == 0 ? flow_pool_threads(pool) >= 1 : flow_pool_threads(pool) == threads);
  for (int round = 0; round < ROUNDS; round++) each_once(pool, 1 + round % 17);
  each_once(pool, MAX_TASKS);
  for (int nap = 0; nap < 5; nap++) {
    usleep(3000); /* long past the spin: the workers sleep now */
    each_once(pool, 64);
  }
  for (int bad = 0; bad < 10; bad++) EXPECT(flow_pool_run(pool, fail_task, &bad, 10) == 40 + bad);
  each_once(pool, 8);
  flow_pool_destroy(pool);
}

int main(void) {
  const uint32_t threads[] = {0, 1, 2, 3, 8};
  for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) check_pool(threads[i]);
  for (int i = 0; i < 50; i++) { /* destroyed while spinning, and while going to sleep */
    flow_pool *pool;
    EXPECT(flow_pool_create(3, &pool, NULL) == TVM_FLOW_OK);
    if (i % 2) usleep(100);
    flow_pool_destroy(pool);
  }
  flow_pool_destroy(NULL);
  puts("ok");
  return 0;
}
