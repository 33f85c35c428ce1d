#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A pause is about 40 ns on x86 and less on ARM: workers wait 50 to 100 us awake, longer than the serial stretch
 * between two parallel kernels, and shorter than a scheduler's slice. */
enum { SPINS = 2000, MAX_THREADS = 256 };

/* `unclaimed` is the only word that says whether there is work. A thread that lowers it from n to n-1 owns task
 * count-n, and until it has counted itself in `done` the job cannot end, so the job's fields are stable for it. */
struct flow_pool {
  atomic_int unclaimed;
  atomic_int done;
  atomic_int failure;
  atomic_int sleepers;
  atomic_int stop;
  flow_task task;
  void *data;
  int count;
  pthread_mutex_t lock;
  pthread_cond_t wake;
  uint32_t threads;
  uint32_t started;
  pthread_t workers[];
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int run_one(flow_pool *pool) {
  int left = atomic_load_explicit(&pool->unclaimed, memory_order_relaxed);
  do {
    if (left == 0) return 0;
  } while (!atomic_compare_exchange_weak_explicit(&pool->unclaimed, &left, left - 1, memory_order_acq_rel,
                                                  memory_order_relaxed));
  int code = pool->task(pool->count - left, pool->count, pool->data);
  if (code) atomic_store_explicit(&pool->failure, code, memory_order_relaxed);
  atomic_fetch_add_explicit(&pool->done, 1, memory_order_release);
  return 1;
}

/* Counts itself as a sleeper before the last look at `unclaimed`; flow_pool_run stores `unclaimed` before it looks at
 * `sleepers`. Both sides are sequentially consistent, so one of them sees the other and no wake-up is lost. */
static void sleep_until_work(flow_pool *pool) {
  pthread_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->sleepers, 1);
  while (atomic_load(&pool->unclaimed) == 0 && !atomic_load(&pool->stop)) pthread_cond_wait(&pool->wake, &pool->lock);
  atomic_fetch_sub(&pool->sleepers, 1);
  pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
  flow_pool *pool = argument;
  int spins = 0;
  while (!atomic_load_explicit(&pool->stop, memory_order_relaxed)) {
    if (run_one(pool)) {
      spins = 0;
    } else if (++spins < SPINS) {
      relax();
    } else {
      sleep_until_work(pool);
      spins = 0;
    }
  }
  return NULL;
}

static uint32_t usable_cores(void) {
  cpu_set_t set;
  int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return count < 1 ? 1u : (uint32_t)count;
}

tvm_flow_status flow_pool_create(uint32_t threads, flow_pool **out, tvm_flow_error *error) {
  if (threads == 0) threads = usable_cores();
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  flow_pool *pool = calloc(1, sizeof *pool + threads * sizeof(pthread_t));
  *out = NULL;
  if (!pool) return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for %u threads; free memory", threads);
  pool->threads = threads;
  pthread_mutex_init(&pool->lock, NULL);
  pthread_cond_init(&pool->wake, NULL);
  for (; pool->started + 1 < threads; pool->started++)
    if (pthread_create(&pool->workers[pool->started], NULL, work, pool) != 0) {
      uint32_t started = pool->started;
      flow_pool_destroy(pool);
      return flow_fail(error, TVM_FLOW_NO_THREAD, "expected %u threads, could start %u; ask for fewer", threads,
                       started + 1);
    }
  *out = pool;
  return TVM_FLOW_OK;
}

void flow_pool_destroy(flow_pool *pool) {
  if (!pool) return;
  pthread_mutex_lock(&pool->lock);
  atomic_store(&pool->stop, 1);
  pthread_cond_broadcast(&pool->wake);
  pthread_mutex_unlock(&pool->lock);
  for (uint32_t i = 0; i < pool->started; i++) pthread_join(pool->workers[i], NULL);
  pthread_cond_destroy(&pool->wake);
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}

uint32_t flow_pool_threads(const flow_pool *pool) { return pool->threads; }

static int run_inline(flow_task task, void *data, int count) {
  int failure = 0;
  for (int id = 0; id < count; id++) {
    int code = task(id, count, data);
    if (code) failure = code;
  }
  return failure;
}

int flow_pool_run(flow_pool *pool, flow_task task, void *data, int count) {
  if (pool->threads == 1 || count == 1) return run_inline(task, data, count);
  pool->task = task;
  pool->data = data;
  pool->count = count;
  atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->failure, 0, memory_order_relaxed);
  atomic_store(&pool->unclaimed, count);
  if (atomic_load(&pool->sleepers) > 0) {
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
  }
  while (run_one(pool)) {
  }
  /* Past the spin the worker has probably lost its core; give it ours. */
  for (int spins = 0; atomic_load_explicit(&pool->done, memory_order_acquire) < count; spins++)
    if (spins < SPINS) relax();
    else sched_yield();
  return atomic_load_explicit(&pool->failure, memory_order_relaxed);
}
