/* Seeing every kernel call of a bundle that runs: for tests, for finding where two machines begin to differ, and for
 * finding where time goes. */
#ifndef TVM_FLOW_TRACE_H
#define TVM_FLOW_TRACE_H

#include "tvm_flow.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A dense row-major tensor as a kernel saw it. dtype codes are DLPack's: 0 int, 1 uint, 2 float. */
typedef struct {
  const void *data;
  const int64_t *shape;
  int32_t ndim;
  uint8_t dtype_code;
  uint8_t dtype_bits;
} tvm_flow_view;

#define TVM_FLOW_NO_CLOCK UINT64_MAX

/* One finished kernel call. args[num_args - 1] is what the kernel wrote. A call of the prologue has the step that it
 * runs before. Valid during the callback only. */
typedef struct {
  uint32_t step;
  uint32_t branch;
  uint32_t call;
  uint32_t num_args;
  const char *kernel;
  const tvm_flow_view *args; /* on the host: read back from another device, which takes memory for the while */
  const char *device;        /* that ran it: "cpu" */
  uint64_t started_ns;       /* by a clock that never goes back, of no known beginning */
  uint64_t ended_ns;
  uint64_t device_ns; /* that it took by a clock of the device's own; TVM_FLOW_NO_CLOCK where that has none */
} tvm_flow_kernel_call;

/* Non-zero stops the plan; the running function returns TVM_FLOW_CANCELLED. With options.cpus the thread is
 * bound to the first of them here. */
typedef int (*tvm_flow_trace)(void *user, const tvm_flow_kernel_call *call);

/* Calls `trace` after every kernel call from now on, with `user`, which is not looked at; NULL stops. Unset it costs
 * one predictable branch a segment. OK, or BUSY while the handle runs. */
TVM_FLOW_API tvm_flow_status tvm_flow_set_trace(tvm_flow *flow, tvm_flow_trace trace, void *user);

#ifdef __cplusplus
}
#endif
#endif
