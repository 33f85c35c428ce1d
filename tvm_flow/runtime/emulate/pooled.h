/* How those that time a kernel run its tasks: on the runtime's pool, if there is one; tasks of a task in order. */
#ifndef TVM_FLOW_POOLED_H
#define TVM_FLOW_POOLED_H

#include "../src/pool.h"
#include "launch.h"

typedef struct {
  int (*task)(int, void *, void *);
  void *data;
} loop;

static flow_pool *pool;
static _Thread_local int in_task;

static int run_task(int id, int count, void *data) {
  const loop *l = data;
  flow_parallel_group group = {.sync_handle = NULL, .num_task = count};
  in_task = 1;
  const int code = l->task(id, &group, l->data);
  in_task = 0;
  return code;
}

static int launch_in_pool(int (*task)(int, void *, void *), void *data, int count) {
  loop l = {task, data};
  if (in_task || !pool) return launch(task, data, count);
  return flow_pool_run(pool, run_task, &l, count > 0 ? count : flow_pool_tasks(pool));
}

#endif
