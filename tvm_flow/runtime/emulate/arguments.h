/* A kernel's arguments from stdin, little endian: uint32 count, then each: uint32 dtype_code, dtype_bits, ndim, 0;
 * int64 shape[8], 0 past ndim; the elements. tvm_flow.check.kernels writes them.
 */
#ifndef TVM_FLOW_ARGUMENTS_H
#define TVM_FLOW_ARGUMENTS_H

#include "no_services.h"

enum { MAX_ARGS = 64, MAX_DIMS = 8 };

typedef struct {
  uint32_t code, bits, ndim, zero;
  int64_t shape[MAX_DIMS];
} head;

static flow_any args[MAX_ARGS];

/* Fills `args`; the last tensor and its bytes, NULL when stdin does not hold them. */
static inline const flow_dltensor *read_arguments(uint32_t *count, size_t *bytes) {
  static head heads[MAX_ARGS];
  static flow_dltensor tensors[MAX_ARGS];
  if (fread(count, sizeof *count, 1, stdin) != 1 || *count < 1 || *count > MAX_ARGS) return NULL;
  for (uint32_t i = 0; i < *count; i++) {
    head *h = &heads[i];
    if (fread(h, sizeof *h, 1, stdin) != 1 || h->ndim > MAX_DIMS) return NULL;
    *bytes = h->bits / 8u;
    for (uint32_t axis = 0; axis < h->ndim; axis++) *bytes *= (size_t)h->shape[axis];
    tensors[i] = tensor_of(get(*bytes), (uint8_t)h->code, (uint8_t)h->bits, (int32_t)h->ndim, h->shape);
    if (!tensors[i].data) return NULL;
    args[i] = argument(&tensors[i]);
  }
  return &tensors[*count - 1];
}

#endif
