/* A pool of threads for loops of 10 us to 1 ms: workers spin for a moment before they sleep. */
#ifndef TVM_FLOW_POOL_H
#define TVM_FLOW_POOL_H

#include "error.h"

typedef struct flow_pool flow_pool;

/* Task `id` of `count`; non-zero is a failure. */
typedef int (*flow_task)(int id, int count, void *data);

/* threads counts the caller; 0 means every core that this process may use. */
tvm_flow_status flow_pool_create(uint32_t threads, flow_pool **out, tvm_flow_error *error);

void flow_pool_destroy(flow_pool *pool);

uint32_t flow_pool_threads(const flow_pool *pool);

/* Runs each id in 0 .. count-1 once, the caller helping, and returns when all are done: 0, or the code of a task that
 * failed. One caller at a time. */
int flow_pool_run(flow_pool *pool, flow_task task, void *data, int count);

#endif
