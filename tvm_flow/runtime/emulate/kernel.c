/* Runs one kernel, the function KERNEL that it is compiled with, on arguments from stdin (arguments.h), and writes the
 * elements of the last argument afterwards to stdout; then, where COUNTS is defined, so many uint64 of flow_counts,
 * which tvm_flow.tune.counted puts into the kernel.
 */
#include "arguments.h"

extern int KERNEL(void *self, const void *args, int32_t num_args, void *result);

#ifdef COUNTS
extern const uint64_t flow_counts[COUNTS];
static int write_counts(void) { return fwrite(flow_counts, sizeof *flow_counts, COUNTS, stdout) != COUNTS; }
#else
static int write_counts(void) { return 0; }
#endif

int main(void) {
  flow_any result = {0};
  uint32_t count;
  size_t bytes = 0;
  const flow_dltensor *last = read_arguments(&count, &bytes);
  if (!last) return 2;
  if (KERNEL(NULL, args, (int32_t)count, &result)) return 1;
  return fwrite(last->data, 1, bytes, stdout) != bytes || write_counts() || fflush(stdout);
}
