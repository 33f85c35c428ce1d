/* Adds up integer products as the kernels of a bundle do, without their epilogues: sums.
 *
 * Reads requests from stdin until it ends, each a uint32 index into `sums_kernels` and the bytes of X and of the
 * packed W, and writes C [m, n] int32 for each to stdout; little endian. tvm_flow.check.sums feeds it.
 */
#include "no_services.h"
#include "sums.h"

static int serve(const sums_kernel *k) {
  int64_t shape_x[] = {k->m, k->k}, shape_c[] = {k->m, k->n};
  int64_t shape_w[] = {k->blocks, k->k / k->depth, k->columns, k->depth};
  void *x = get((size_t)(k->m * k->k)), *w = x ? get((size_t)(k->blocks * k->columns * k->k)) : NULL;
  const size_t count = (size_t)(k->m * k->n);
  int32_t *c = w ? allocate(0, 0, count * sizeof *c, 0, 32) : NULL;
  int code = 1;
  if (c) {
    flow_dltensor tx = tensor_of(x, 0, 8, 2, shape_x), tw = tensor_of(w, 0, 8, 4, shape_w);
    flow_dltensor tc = tensor_of(c, 0, 32, 2, shape_c);
    flow_any args[] = {argument(&tx), argument(&tw), argument(&tc)}, result = {0};
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
