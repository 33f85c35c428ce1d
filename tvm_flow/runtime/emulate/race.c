/* Times kernels that compute the same thing, one call or a batch at a time, on the threads of the runtime: race
 * THREADS.
 *
 * stdin, little endian: uint32 count, then the arguments as arguments.h takes them, then requests until it ends, each
 * of three uint32: a kernel, a number of calls, what to answer. 0: the nanoseconds of all calls, as a uint64. 1: the
 * elements of the last argument, filled with 0xA5 before the calls. A kernel that fails ends the program.
 */
#include "race.h"

#include <string.h>
#include <time.h>

#include "arguments.h"
#include "pooled.h"

enum { TIME = 0, OUTPUT = 1 };

typedef struct {
  uint32_t kernel, calls, what;
} request;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int answer(const request *r, uint32_t count, const flow_dltensor *last, size_t bytes) {
  flow_any result = {0};
  if (r->what == OUTPUT) memset(last->data, 0xA5, bytes);
  const uint64_t start = now();
  for (uint32_t i = 0; i < r->calls; i++)
    if (race_kernels[r->kernel](NULL, args, (int32_t)count, &result)) return 1;
  const uint64_t took = now() - start;
  const void *said = r->what == OUTPUT ? last->data : (const void *)&took;
  const size_t size = r->what == OUTPUT ? bytes : sizeof took;
  return fwrite(said, 1, size, stdout) != size || fflush(stdout);
}

int main(int argc, char **argv) {
  uint32_t count;
  size_t bytes = 0;
  tvm_flow_error error = {0};
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {.threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1u, .host = &host};
  if (options.threads != 1 && flow_pool_create(&options, &pool, &error)) return fputs(error.message, stderr), 3;
  __TVMBackendParallelLaunch = launch_in_pool;
  const flow_dltensor *last = read_arguments(&count, &bytes);
  if (!last) return 2;
  for (request r; fread(&r, sizeof r, 1, stdin) == 1;)
    if (r.kernel >= race_count || answer(&r, count, last, bytes)) return 1;
  if (pool) flow_pool_destroy(pool);
  return 0;
}
