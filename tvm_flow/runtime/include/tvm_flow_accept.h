/* Who may say what is opened: options.accept sees what a bundle is before a number of it is believed.
 *
 * What it accepts binds everything: steps.bin states the sha256 of weights, libraries and golden pair, decoder.bin that
 * of its weights and library, and each is copied before it is hashed, so that what was accepted is what runs.
 * tvm_flow_signature.h of the optional part has one that checks signatures.
 */
#ifndef TVM_FLOW_ACCEPT_H
#define TVM_FLOW_ACCEPT_H

#include "tvm_flow_base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  uint32_t struct_bytes;    /* sizeof(tvm_flow_identity) of the runtime */
  uint32_t signature_bytes; /* at most 4096 */
  const char *file;         /* "steps.bin" or "decoder.bin" */
  const uint8_t *sha256;    /* 32 bytes: of that file, whole, as it was copied */
  const uint8_t *signature; /* signature.bin, which nobody looked at yet; NULL: there is none that can be read */
} tvm_flow_identity;

/* OK, or why not, with a message in *error, which is never NULL. On the thread that called, for steps.bin by
 * tvm_flow_open, tvm_flow_plan and tvm_flow_decoder_verify, for decoder.bin by tvm_flow_decoder_open and its plan; what
 * `identity` points to is valid during the call. */
typedef tvm_flow_status (*tvm_flow_accept)(void *user, const tvm_flow_identity *identity, tvm_flow_error *error);

#ifdef __cplusplus
}
#endif
#endif
