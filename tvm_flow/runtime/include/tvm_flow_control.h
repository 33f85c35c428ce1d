/* Stopping what runs, from any thread or signal handler, and decoding with progress.
 *
 *   static tvm_flow *flow;
 *   static void on_signal(int number) { tvm_flow_cancel(flow); }
 */
#ifndef TVM_FLOW_CONTROL_H
#define TVM_FLOW_CONTROL_H

#include "tvm_flow_decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Asks the function that runs on the handle to stop before its next kernel; it returns TVM_FLOW_CANCELLED, or OK where
 * no kernel was left. A segment of a device other than the CPU ends first. The handle stays usable. Where nothing runs
 * the call is forgotten when the next function begins, so a caller that must stop one about to begin asks again until
 * it ends. One atomic store: allowed at any time between open and close, also in a signal handler and in callbacks.
 * NULL is allowed. */
TVM_FLOW_API void tvm_flow_cancel(tvm_flow *flow);
TVM_FLOW_API void tvm_flow_decoder_cancel(tvm_flow_decoder *decoder);

/* What to decode, and where to. */
typedef struct {
  uint32_t struct_bytes; /* sizeof(tvm_flow_decode_request) */
  const float *latents;  /* [latent_shape] */
  float *frames;         /* as tvm_flow_decode writes them; NULL: not written */
  uint8_t *rgb8;         /* as tvm_flow_decode_rgb8 does; NULL: not written, but one of the two is */
  tvm_flow_progress progress; /* after each chunk, with the number of chunks done and their total; may be NULL */
  void *user;
} tvm_flow_decode_request;

/* Frames of a video. INVALID_ARGUMENT a null pointer or another size; CANCELLED by progress too. */
TVM_FLOW_API tvm_flow_status tvm_flow_decode_with(tvm_flow_decoder *decoder, const tvm_flow_decode_request *request,
                                                  tvm_flow_error *error);

#ifdef __cplusplus
}
#endif
#endif
