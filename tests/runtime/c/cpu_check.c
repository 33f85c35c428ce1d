/* cpu_check "FEATURES": prints the status and the message. */
#include <stdio.h>

#include "library.h"

int main(int argc, char **argv) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  if (argc != 2) return 2;
  printf("%d %s\n", (int)flow_check_cpu("x.so", argv[1], &error), error.message);
  return 0;
}
