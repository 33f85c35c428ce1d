/* What tvm_flow.tune.board_program has TVM's RPC server load on a board: candidates, timed on the runtime's threads.
 *
 * board_time(kernel, calls, threads, arguments...) gives the nanoseconds of all calls, -1 when one fails.
 * Plain C functions of TVM's calling convention; tvm_ffi of the server brings what kernels call.
 */
#include "race.h"

#include <time.h>

#include "board_values.h"
#include "pooled.h"

static uint32_t pool_threads;

int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int);
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
int (*__TVMBackendFreeWorkspace)(int, int, void *);

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int use_threads(uint32_t threads) {
  tvm_flow_error error = {0};
  const flow_host host = flow_host_of(NULL);
  static flow_host kept; /* outlives the pool */
  kept = host;
  if (pool) flow_pool_destroy(pool);
  pool = NULL;
  pool_threads = threads;
  const flow_pool_options options = {.threads = threads, .host = &kept};
  return threads != 1 && flow_pool_create(&options, &pool, &error);
}

BOARD_FUNCTION(time) {
  (void)self;
  const int64_t kernel = args[0].v_int64, calls = args[1].v_int64, threads = args[2].v_int64;
  if (kernel < 0 || kernel >= race_count || threads < 0 || threads > 1024) return answer(result, -1);
  if ((uint32_t)threads != pool_threads && use_threads((uint32_t)threads)) return answer(result, -1);
  __TVMBackendParallelLaunch = launch_in_pool;
  flow_any said = {0};
  const int64_t start = now();
  for (int64_t i = 0; i < calls; i++)
    if (race_kernels[kernel](NULL, args + 3, count - 3, &said)) return answer(result, -1);
  return answer(result, now() - start);
}
