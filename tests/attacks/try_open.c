/* try_open BUNDLE: opens and runs it; prints the status and the message. Built under the address sanitizer. */
#include <stdio.h>

#include "tvm_flow.h"

int main(int argc, char **argv) {
  tvm_flow_options options = {sizeof options, 2, 0};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow *flow;
  if (argc != 2) return 2;
  tvm_flow_status status = tvm_flow_open(argv[1], &options, &flow, &error);
  if (!status) status = tvm_flow_verify(flow, &error);
  tvm_flow_close(flow);
  printf("%d %s\n", (int)status, error.message);
  return status != error.status;
}
