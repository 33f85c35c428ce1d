/* What is looked at of a library's file before the system's loader is: nothing of it is loaded here. */
#include "library.h"

#include "given.h"

int target_attempt(const uint8_t *data, size_t bytes) {
  uint8_t *exact = malloc(bytes + !bytes); /* so that one byte more is seen */
  memcpy(exact, data, bytes);
  const flow_map map = {.data = exact, .bytes = bytes};
  const tvm_flow_status s = flow_check_elf("x.so", &map, NULL);
  free(exact);
  return (int)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return target_attempt(data, bytes), 0; }
