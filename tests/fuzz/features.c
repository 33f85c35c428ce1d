/* The features that a library says its kernels use: any text. */
#include "library.h"

#include "given.h"

int target_attempt(const uint8_t *data, size_t bytes) {
  char *text = malloc(bytes + 1);
  tvm_flow_error error;
  memcpy(text, data, bytes);
  text[bytes] = 0;
  const tvm_flow_status s = flow_check_cpu("x.so", text, &error);
  free(text);
  return (int)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return target_attempt(data, bytes), 0; }

size_t target_seed(uint8_t *out, size_t most) {
  static const char seed[] = "avx2 fma +sse4.2 neon dotprod";
  return most < sizeof seed ? 0 : (memcpy(out, seed, sizeof seed), sizeof seed - 1);
}
