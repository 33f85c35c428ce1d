/* Adds up integer products as the kernels of a bundle do, without their epilogues: sums.
 *
 * Reads requests from stdin until it ends, each a uint32 index into `sums_kernels` and the bytes of X and of the
 * packed W, and writes C [m, n] int32 for each to stdout; little endian. tvm_flow.check.sums feeds it.
 */
#include "services.h"
#include "sums.h"

static int serve(const sums_kernel *k) {
  int64_t shape_x[] = {k->m, k->k}, shape_c[] = {k->m, k->n};
  int64_t shape_w[] = {k->blocks, k->k / k->depth, k->columns, k->depth};
  void *x = get((size_t)(k->m * k->k)), *w = x ? get((size_t)(k->blocks * k->columns * k->k)) : NULL;
  const size_t count = (size_t)(k->m * k->n);
  int32_t *c = w ? allocate(0, 0, count * sizeof *c, 0, 32) : NULL;
  int code = 1;
  if (c) {
    tensor tensors[] = {{x, {1, 0}, 2, 0, 8, 1, shape_x, NULL, 0},
                        {w, {1, 0}, 4, 0, 8, 1, shape_w, NULL, 0},
                        {c, {1, 0}, 2, 0, 32, 1, shape_c, NULL, 0}};
    argument args[] = {{7, 0, &tensors[0]}, {7, 0, &tensors[1]}, {7, 0, &tensors[2]}}, result = {0, 0, NULL};
    code = k->kernel(NULL, args, 3, &result) || fwrite(c, sizeof *c, count, stdout) != count || fflush(stdout);
  }
  free(c);
  free(w);
  free(x);
  return code;
}

int main(void) {
  uint32_t index;
  while (fread(&index, sizeof index, 1, stdin) == 1)
    if (index >= sums_count || serve(&sums_kernels[index])) return 1;
  return 0;
}
