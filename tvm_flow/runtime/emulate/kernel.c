/* Runs one kernel, the function KERNEL that it is compiled with, on arguments from stdin (arguments.h), and writes the
 * elements of the last argument afterwards to stdout.
 */
#include "arguments.h"

extern int KERNEL(void *self, const void *args, int32_t num_args, void *result);

int main(void) {
  flow_any result = {0};
  uint32_t count;
  size_t bytes = 0;
  const flow_dltensor *last = read_arguments(&count, &bytes);
  if (!last) return 2;
  if (KERNEL(NULL, args, (int32_t)count, &result)) return 1;
  return fwrite(last->data, 1, bytes, stdout) != bytes || fflush(stdout);
}
