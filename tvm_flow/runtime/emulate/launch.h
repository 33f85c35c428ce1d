/* How the small programs of tvm_flow.check and tvm_flow.tune run a kernel's tasks: one after the other. */
#ifndef TVM_FLOW_LAUNCH_H
#define TVM_FLOW_LAUNCH_H

#include "../src/tvm_abi.h"

static inline int launch(int (*task)(int, void *, void *), void *data, int count) {
  flow_parallel_group group = {.sync_handle = NULL, .num_task = count > 0 ? count : 1};
  int code = 0;
  for (int id = 0; id < group.num_task; id++) code |= task(id, &group, data);
  return code;
}

#endif
