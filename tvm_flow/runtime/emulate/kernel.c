/* Runs one kernel, the function KERNEL that it is compiled with, on arguments from stdin, and writes its output.
 *
 * stdin, little endian: uint32 count, then each argument: uint32 dtype_code, dtype_bits, ndim, 0; int64 shape[8], 0
 * past ndim; the elements. stdout: the elements of the last argument afterwards. tvm_flow.check.kernels feeds it.
 */
#include "no_services.h"

enum { MAX_ARGS = 64, MAX_DIMS = 8 };

extern int KERNEL(void *self, const void *args, int32_t num_args, void *result);

typedef struct {
  uint32_t code, bits, ndim, zero;
  int64_t shape[MAX_DIMS];
} head;

int main(void) {
  static head heads[MAX_ARGS];
  static flow_dltensor tensors[MAX_ARGS];
  static flow_any args[MAX_ARGS];
  flow_any result = {0};
  uint32_t count;
  size_t bytes = 0;
  if (fread(&count, sizeof count, 1, stdin) != 1 || count < 1 || count > MAX_ARGS) return 2;
  for (uint32_t i = 0; i < count; i++) {
    head *h = &heads[i];
    if (fread(h, sizeof *h, 1, stdin) != 1 || h->ndim > MAX_DIMS) return 2;
    bytes = h->bits / 8u;
    for (uint32_t axis = 0; axis < h->ndim; axis++) bytes *= (size_t)h->shape[axis];
    const uint8_t code = (uint8_t)h->code, bits = (uint8_t)h->bits;
    tensors[i] = tensor_of(get(bytes), code, bits, (int32_t)h->ndim, h->shape);
    if (!tensors[i].data) return 2;
    args[i] = argument(&tensors[i]);
  }
  if (KERNEL(NULL, args, (int32_t)count, &result)) return 1;
  return fwrite(tensors[count - 1].data, 1, bytes, stdout) != bytes || fflush(stdout);
}
