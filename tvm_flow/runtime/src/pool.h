/* A pool of threads for loops of 10 us to 1 ms: workers spin for a moment before they sleep.
 *
 * Work in proportion to a core's speed: a loop is cut into more tasks than there are threads, and each thread takes
 * the next one when it is done, from one atomic counter. A core of twice the speed takes twice as many, whatever made
 * it so: its size, its clock, or another process on it. Weights for each core would have to be measured, differ from
 * kernel to kernel (a little core is half as fast in one and a fifth in another), and be wrong when the clock drops.
 * The price is a few more calls for each loop; where all cores are alike a loop is cut into one task a thread.
 */
#ifndef TVM_FLOW_POOL_H
#define TVM_FLOW_POOL_H

#include "affinity.h"
#include "cores.h"
#include "host.h"

typedef struct flow_pool flow_pool;

/* Task `id` of `count`; non-zero is a failure. */
typedef int (*flow_task)(int id, int count, void *data);

/* The fields of tvm_flow_options with these names. */
typedef struct {
  uint32_t threads;
  uint32_t tasks_per_thread;
  const uint32_t *cpus; /* read during flow_pool_create only */
  uint32_t num_cpus;
  const flow_host *host; /* outlives the pool */
} flow_pool_options;

/* On failure nothing is held, and the calling thread has the CPUs that it had. */
tvm_flow_status flow_pool_create(const flow_pool_options *options, flow_pool **out, tvm_flow_error *error);

/* Bytes that it allocates; 0 where these options have no pool. */
uint64_t flow_pool_bytes(const tvm_flow_options *options);

void flow_pool_destroy(flow_pool *pool);

uint32_t flow_pool_threads(const flow_pool *pool);

/* Into how many tasks to cut a loop that leaves it to the pool. */
int flow_pool_tasks(const flow_pool *pool);

/* The calling thread becomes worker 0: bound to its CPU, or kept off little cores, until flow_pool_leave gives it back
 * the ones that it had, which `before` holds meanwhile. Where neither is called for both do nothing. Fails when the CPU
 * went offline since. */
tvm_flow_status flow_pool_enter(const flow_pool *pool, flow_cpu_set *before, tvm_flow_error *error);
void flow_pool_leave(const flow_pool *pool, const flow_cpu_set *before);

/* Runs each id in 0 .. count-1 once, the caller helping, and returns when all are done: 0, or the code of a task that
 * failed. One caller at a time. */
int flow_pool_run(flow_pool *pool, flow_task task, void *data, int count);

/* The same on the caller's thread alone. */
int flow_run_inline(flow_task task, void *data, int count);

#endif
