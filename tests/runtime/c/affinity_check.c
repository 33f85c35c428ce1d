/* Workers run on the CPUs that they are bound to, in that order; the caller has its own back: affinity_check CPU CPU. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "pool.h"

enum { TASKS = 400 };

typedef struct {
  pthread_t caller;
  uint32_t cpus[2]; /* of the caller and of the worker */
  atomic_int tasks[2];
} places;

static cpu_set_t own_mask(void) {
  cpu_set_t mask;
  EXPECT(sched_getaffinity(0, sizeof mask, &mask) == 0);
  return mask;
}

/* Both take a task before either takes a second one, so that the worker is seen too. */
static int look(int id, int count, void *data) {
  places *p = data;
  const int who = !pthread_equal(pthread_self(), p->caller);
  const cpu_set_t mask = own_mask();
  (void)id, (void)count;
  atomic_fetch_add(&p->tasks[who], 1);
  while (atomic_load(&p->tasks[!who]) == 0) sched_yield();
  return CPU_COUNT(&mask) == 1 && CPU_ISSET(p->cpus[who], &mask) && sched_getcpu() == (int)p->cpus[who] ? 0 : -1;
}

static void check_order(const uint32_t *cpus, uint32_t threads) {
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {threads, 0, cpus, 2, &host};
  const cpu_set_t before = own_mask();
  cpu_set_t kept, after;
  flow_pool *pool;
  EXPECT(flow_pool_create(&options, &pool, NULL) == TVM_FLOW_OK && flow_pool_threads(pool) == 2);
  after = own_mask();
  EXPECT(CPU_EQUAL(&before, &after));
  for (int round = 0; round < 20; round++) {
    places p = {.caller = pthread_self(), .cpus = {cpus[0], cpus[1]}, .tasks = {0, 0}};
    EXPECT(flow_pool_enter(pool, &kept, NULL) == TVM_FLOW_OK);
    EXPECT(flow_pool_run(pool, look, &p, TASKS) == 0);
    flow_pool_leave(pool, &kept);
    after = own_mask();
    EXPECT(CPU_EQUAL(&before, &after));
  }
  flow_pool_destroy(pool);
}

/* One CPU that is there, then one that is not: a worker could be started, and must be gone again. */
static void check_failure(uint32_t cpu) {
  const uint32_t cpus[] = {cpu, CPU_SETSIZE - 1};
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {0, 0, cpus, 2, &host};
  const cpu_set_t before = own_mask();
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  flow_pool *pool;
  EXPECT(flow_pool_create(&options, &pool, &error) == TVM_FLOW_INVALID_ARGUMENT && pool == NULL);
  EXPECT(strstr(error.message, "options.cpus[1]: expected a CPU that is there"));
  const cpu_set_t after = own_mask();
  EXPECT(CPU_EQUAL(&before, &after));
}

static int nothing(int id, int count, void *data) { return (void)id, (void)count, (void)data, 0; }

static void check_unbound(void) {
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {2, 0, NULL, 0, &host};
  const cpu_set_t before = own_mask();
  cpu_set_t kept;
  flow_pool *pool;
  EXPECT(flow_pool_create(&options, &pool, NULL) == TVM_FLOW_OK);
  EXPECT(flow_pool_enter(pool, &kept, NULL) == TVM_FLOW_OK);
  const cpu_set_t within = own_mask();
  EXPECT(CPU_EQUAL(&before, &within));
  EXPECT(flow_pool_run(pool, nothing, NULL, 9) == 0);
  flow_pool_leave(pool, &kept);
  flow_pool_destroy(pool);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const uint32_t one = (uint32_t)atoi(argv[1]), other = (uint32_t)atoi(argv[2]);
  const uint32_t forwards[] = {one, other}, backwards[] = {other, one};
  check_order(forwards, 0);
  check_order(backwards, 2);
  check_failure(one);
  check_unbound();
  puts("ok");
  return 0;
}
