/* The table that tvm_flow.check.sums generates for sums.c. */
#ifndef TVM_FLOW_SUMS_H
#define TVM_FLOW_SUMS_H

#include <stdint.h>

typedef struct {
  int (*kernel)(void *self, const void *args, int32_t num_args, void *result);
  int64_t m, k, n, blocks, columns, depth; /* W is packed [blocks, k / depth, columns, depth] */
} sums_kernel;

extern const sums_kernel sums_kernels[];
extern const uint32_t sums_count;

#endif
