#include "pool.h"

#include <stdatomic.h>
#include <string.h>

#include "float_mode.h"

/* A pause is about 40 ns on x86 and less on ARM: workers wait 50 to 100 us awake, longer than the serial stretch
 * between two parallel kernels, and shorter than a scheduler's slice. */
enum { SPINS = 2000, MAX_THREADS = 256, MAX_TASKS_PER_THREAD = 64 };

/* Where cores differ. For 1 to 4 big cores with 3 to 6 little ones, 1.5 to 4 times slower, a loop then takes at most
 * 1.09 times as long as perfect sharing (one task for each thread: 1.12 to 2.5 times; greedy schedule, counted).
 * Cutting the demo's loops, shorter than any real model's, into 8, 16, 32, 64 tasks costs 1, 2, 4, 7 % on an x86 core.
 */
enum { UNEVEN_TASKS = 8 };

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
  flow_mutex lock;
  flow_condition wake;
  uint32_t threads;
  uint32_t tasks_per_thread;
  uint32_t started;
  int bound;      /* workers are bound to CPUs, the caller to first_cpu */
  uint32_t first_cpu;
  flow_cores cores; /* or all stay on these */
  const flow_host *host;
  flow_thread workers[];
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
  flow_mutex_lock(&pool->lock);
  atomic_fetch_add(&pool->sleepers, 1);
  while (atomic_load(&pool->unclaimed) == 0 && !atomic_load(&pool->stop)) flow_condition_wait(&pool->wake, &pool->lock);
  atomic_fetch_sub(&pool->sleepers, 1);
  flow_mutex_unlock(&pool->lock);
}

static void *work(void *argument) {
  flow_pool *pool = argument;
  int spins = 0;
  flow_float_set(FLOW_FLOAT_DEFAULT); /* a thread begins with its creator's */
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

static tvm_flow_status start_workers(flow_pool *pool, const flow_pool_options *options, tvm_flow_error *error) {
  tvm_flow_status s = TVM_FLOW_OK;
  for (; !s && pool->started + 1 < pool->threads; pool->started += !s) {
    if (pool->bound) s = flow_bind_cpu(options->cpus, pool->started + 1, error);
    if (!s && flow_thread_start(&pool->workers[pool->started], work, pool))
      s = flow_fail(error, TVM_FLOW_NO_THREAD, "expected %u threads, could start %u; ask for fewer", pool->threads,
                    pool->started + 1);
  }
  return s;
}

static tvm_flow_status check_options(const flow_pool_options *given, flow_pool_options *out, flow_cores *cores,
                                     tvm_flow_error *error) {
  *out = *given;
  if (out->tasks_per_thread > MAX_TASKS_PER_THREAD)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.tasks_per_thread: expected at most %d, got %u; 0 lets "
                     "the runtime choose", MAX_TASKS_PER_THREAD, out->tasks_per_thread);
  tvm_flow_status s = flow_check_cpus(out->cpus, out->num_cpus, error);
  if (s) return s;
  if (out->threads > MAX_THREADS) out->threads = MAX_THREADS;
  if (out->num_cpus && out->threads > out->num_cpus)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.cpus: expected a CPU for each of %u threads, got %u; "
                     "name more, or ask for fewer threads", out->threads, out->num_cpus);
  const uint32_t most = out->threads ? out->threads : MAX_THREADS;
  if (out->num_cpus > most) out->num_cpus = most;
  flow_choose_cores(out->threads, out->cpus, out->num_cpus, cores);
  out->threads = cores->threads < most ? cores->threads : most;
  if (out->tasks_per_thread == 0) out->tasks_per_thread = out->threads > 1 && cores->differ ? UNEVEN_TASKS : 1;
  return TVM_FLOW_OK;
}

static uint64_t bytes_of(const flow_pool_options *options) {
  return sizeof(flow_pool) + options->threads * sizeof(flow_thread);
}

uint64_t flow_pool_bytes(const tvm_flow_options *given) {
  const flow_pool_options asked = {given->threads, given->tasks_per_thread, given->cpus, given->num_cpus, NULL};
  flow_pool_options options;
  flow_cores cores;
  return check_options(&asked, &options, &cores, NULL) ? 0 : flow_rounded(bytes_of(&options));
}

tvm_flow_status flow_pool_create(const flow_pool_options *given, flow_pool **out, tvm_flow_error *error) {
  flow_pool_options options;
  flow_cpu_set before;
  flow_cores cores;
  *out = NULL;
  tvm_flow_status s = check_options(given, &options, &cores, error);
  if (s) return s;
  flow_pool *pool = flow_alloc(options.host, bytes_of(&options));
  if (!pool) return flow_no_memory(error, "threads");
  pool->host = options.host;
  pool->threads = options.threads;
  pool->tasks_per_thread = options.tasks_per_thread;
  pool->bound = options.num_cpus > 0;
  pool->first_cpu = pool->bound ? options.cpus[0] : 0;
  pool->cores = cores;
  flow_mutex_init(&pool->lock);
  flow_condition_init(&pool->wake);
  s = flow_pool_enter(pool, &before, error);
  if (!s) {
    s = start_workers(pool, &options, error);
    flow_pool_leave(pool, &before);
  }
  if (s) flow_pool_destroy(pool);
  else *out = pool;
  return s;
}

tvm_flow_status flow_pool_enter(const flow_pool *pool, flow_cpu_set *before, tvm_flow_error *error) {
  if (!pool->bound && !pool->cores.confined) return TVM_FLOW_OK;
  if (flow_get_cpus(before) != 0)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.cpus: this system has more CPUs than a mask of %d; "
                     "leave them out", CPU_SETSIZE);
  if (pool->bound) return flow_bind_cpu(&pool->first_cpu, 0, error);
  flow_cpu_set mine; /* the caller may have become less free since; where nothing is left it stays as it is */
  CPU_AND(&mine, before, &pool->cores.set);
  flow_set_cpus(&mine);
  return TVM_FLOW_OK;
}

void flow_pool_leave(const flow_pool *pool, const flow_cpu_set *before) {
  if (pool->bound || pool->cores.confined) flow_set_cpus(before);
}

void flow_pool_destroy(flow_pool *pool) {
  if (!pool) return;
  flow_mutex_lock(&pool->lock);
  atomic_store(&pool->stop, 1);
  flow_condition_broadcast(&pool->wake);
  flow_mutex_unlock(&pool->lock);
  for (uint32_t i = 0; i < pool->started; i++) flow_thread_join(pool->workers[i]);
  flow_condition_destroy(&pool->wake);
  flow_mutex_destroy(&pool->lock);
  flow_free(pool->host, pool);
}

uint32_t flow_pool_threads(const flow_pool *pool) { return pool->threads; }

int flow_pool_tasks(const flow_pool *pool) { return (int)(pool->threads * pool->tasks_per_thread); }

int flow_run_inline(flow_task task, void *data, int count) {
  int failure = 0;
  for (int id = 0; id < count; id++) {
    int code = task(id, count, data);
    if (code) failure = code;
  }
  return failure;
}

int flow_pool_run(flow_pool *pool, flow_task task, void *data, int count) {
  if (pool->threads == 1 || count == 1) return flow_run_inline(task, data, count);
  pool->task = task;
  pool->data = data;
  pool->count = count;
  atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
  atomic_store_explicit(&pool->failure, 0, memory_order_relaxed);
  atomic_store(&pool->unclaimed, count);
  if (atomic_load(&pool->sleepers) > 0) {
    flow_mutex_lock(&pool->lock);
    flow_condition_broadcast(&pool->wake);
    flow_mutex_unlock(&pool->lock);
  }
  while (run_one(pool)) {
  }
  /* Past the spin the worker has probably lost its core; give it ours. */
  for (int spins = 0; atomic_load_explicit(&pool->done, memory_order_acquire) < count; spins++)
    if (spins < SPINS) relax();
    else flow_thread_yield();
  return atomic_load_explicit(&pool->failure, memory_order_relaxed);
}
