/* What tvm_flow.tune.board_program has TVM's RPC server load on a board: candidates, timed on the runtime's threads.
 *
 * board_time(kernel, calls, threads, arguments...) gives the nanoseconds of all calls, -1 when one fails.
 * board_read(path, text) fills `text` with the file `path`, both uint8 tensors, and gives its bytes, -1 without it.
 * Plain C functions of TVM's calling convention; tvm_ffi of the server brings what kernels call.
 */
#include "race.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pooled.h"

enum { TYPE_INT = 1, OBJECT_BYTES = 24, MOST_PATH = 256 };

static uint32_t pool_threads;

int (*__TVMBackendParallelLaunch)(int (*)(int, void *, void *), void *, int);
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
int (*__TVMBackendFreeWorkspace)(int, int, void *);
int __tvm_ffi_board_time(void *self, const flow_any *args, int32_t count, flow_any *result);
int __tvm_ffi_board_read(void *self, const flow_any *args, int32_t count, flow_any *result);

/* A server that was built with another TVM passes tensors as objects, whose tensor follows the header. */
static const flow_dltensor *tensor(const flow_any *value) {
  const char *at = value->v_ptr;
  return (const void *)(value->type_index == FLOW_TYPE_DLTENSOR_PTR ? at : at + OBJECT_BYTES);
}

static int answer(flow_any *result, int64_t value) {
  *result = (flow_any){.type_index = TYPE_INT, .zero_padding = 0, {.v_int64 = value}};
  return 0;
}

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

int __tvm_ffi_board_time(void *self, const flow_any *args, int32_t count, flow_any *result) {
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

int __tvm_ffi_board_read(void *self, const flow_any *args, int32_t count, flow_any *result) {
  (void)self, (void)count;
  const flow_dltensor *path = tensor(&args[0]), *text = tensor(&args[1]);
  char name[MOST_PATH];
  if (path->shape[0] >= MOST_PATH) return answer(result, -1);
  memcpy(name, path->data, (size_t)path->shape[0]);
  name[path->shape[0]] = 0;
  FILE *file = fopen(name, "rb");
  if (!file) return answer(result, -1);
  const size_t bytes = fread(text->data, 1, (size_t)text->shape[0], file);
  fclose(file);
  return answer(result, (int64_t)bytes);
}
