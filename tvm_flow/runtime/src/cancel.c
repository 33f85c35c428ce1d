#include "../include/tvm_flow_control.h"
#include "decoder.h"
#include "flow.h"

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "signal handlers set the flag");

void tvm_flow_cancel(tvm_flow *flow) {
  if (flow) atomic_store(&flow->function.context.cancelled, 1);
}

void tvm_flow_decoder_cancel(tvm_flow_decoder *decoder) {
  if (decoder) atomic_store(&decoder->function.context.cancelled, 1);
}
