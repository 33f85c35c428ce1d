/* Every task id runs exactly once, whoever runs it; failures come back; sleepers are woken. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "expect.h"
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

static void each_once(flow_pool *pool, int tasks) {
  memset(counts, 0, sizeof counts);
  EXPECT(flow_pool_run(pool, count_task, &tasks, tasks) == 0);
  for (int i = 0; i < MAX_TASKS; i++) EXPECT(counts[i] == (i < tasks));
}

static flow_pool *make_pool(uint32_t threads, uint32_t tasks_per_thread) {
  static flow_host host;
  host = flow_host_of(NULL);
  const flow_pool_options options = {threads, tasks_per_thread, NULL, 0, &host};
  flow_pool *pool;
  EXPECT(flow_pool_create(&options, &pool, NULL) == TVM_FLOW_OK);
  return pool;
}

static void check_pool(uint32_t threads) {
  flow_pool *pool = make_pool(threads, 0);
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

/* What two threads did with the tasks of one loop; the worker's first task lasts until all others are done. */
typedef struct {
  pthread_t caller;
  atomic_int by_caller, by_worker;
} shares;

static int share_task(int id, int count, void *data) {
  shares *s = data;
  (void)id;
  if (pthread_equal(pthread_self(), s->caller)) {
    /* Leaves the first task to the worker, or there would be nothing to see. */
    while (atomic_load(&s->by_worker) == 0) usleep(100);
    atomic_fetch_add(&s->by_caller, 1);
  } else {
    atomic_fetch_add(&s->by_worker, 1);
    while (atomic_load(&s->by_caller) + atomic_load(&s->by_worker) < count) usleep(100);
  }
  return 0;
}

/* A core that is slow for whatever reason holds up its own task and no other: with tasks handed out beforehand this
 * would not end. */
static void fast_core_takes_more(void) {
  flow_pool *pool = make_pool(2, 8);
  shares s = {.caller = pthread_self(), .by_caller = 0, .by_worker = 0};
  EXPECT(flow_pool_tasks(pool) == 16);
  EXPECT(flow_pool_run(pool, share_task, &s, 16) == 0);
  EXPECT(s.by_worker == 1 && s.by_caller == 15);
  flow_pool_destroy(pool);
}

static void refuses(uint32_t threads, uint32_t tasks_per_thread, const uint32_t *cpus, uint32_t num_cpus,
                    const char *word) {
  static flow_host host;
  host = flow_host_of(NULL);
  const flow_pool_options options = {threads, tasks_per_thread, cpus, num_cpus, &host};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  flow_pool *pool;
  EXPECT(flow_pool_create(&options, &pool, &error) == TVM_FLOW_INVALID_ARGUMENT && pool == NULL);
  EXPECT(strstr(error.message, word));
}

static void refusals(void) {
  const uint32_t twice[] = {0, 1, 0}, huge[] = {0, 1u << 20}, absent[] = {CPU_SETSIZE - 1};
  refuses(1, 65, NULL, 0, "options.tasks_per_thread: expected at most 64, got 65");
  refuses(1, 0, NULL, 2, "options.cpus: expected 2 rows, got NULL");
  refuses(0, 0, twice, 3, "options.cpus[2]: expected each CPU once, got 0 again");
  refuses(0, 0, huge, 2, "options.cpus[1]: expected a CPU below 1024, got 1048576");
  refuses(0, 0, absent, 1, "options.cpus[0]: expected a CPU that is there, online and allowed for this process, got 1023");
  refuses(2, 0, absent, 1, "options.cpus: expected a CPU for each of 2 threads, got 1");
  refuses(1000, 0, absent, 1, "options.cpus: expected a CPU for each of 256 threads, got 1");
}

static uint64_t bytes_of(uint32_t threads, uint32_t num_cpus) {
  static uint32_t cpus[300];
  for (uint32_t i = 0; i < 300; i++) cpus[i] = i;
  const tvm_flow_options options = {.threads = threads, .cpus = num_cpus ? cpus : NULL, .num_cpus = num_cpus};
  return flow_pool_bytes(&options);
}

/* What memory is for: at most 256 threads, whoever asks for more by number or by CPUs; fewer than there are CPUs. */
static void limits(void) {
  const uint64_t most = bytes_of(256, 0);
  EXPECT(bytes_of(240, 0) < most && bytes_of(240, 300) == bytes_of(240, 0));
  EXPECT(bytes_of(257, 0) == most && bytes_of(UINT32_MAX, 0) == most);
  EXPECT(bytes_of(0, 300) == most && bytes_of(1000, 300) == most && bytes_of(0, 240) == bytes_of(240, 0));
  EXPECT(bytes_of(257, 255) == 0);
}

int main(void) {
  const uint32_t threads[] = {0, 1, 2, 3, 8};
  for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) check_pool(threads[i]);
  for (int i = 0; i < 50; i++) { /* destroyed while spinning, and while going to sleep */
    flow_pool *pool = make_pool(3, 0);
    if (i % 2) usleep(100);
    flow_pool_destroy(pool);
  }
  flow_pool_destroy(NULL);
  fast_core_takes_more();
  refusals();
  limits();
  puts("ok");
  return 0;
}
