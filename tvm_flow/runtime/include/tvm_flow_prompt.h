/* Captions for a request, from the file that `tvm-flow embed --for-bundle BUNDLE "a prompt"` writes.
 *
 *   tvm_flow_prompt cond, uncond;
 *   tvm_flow_prompt_open("prompt.bin", flow, &cond, &error);
 *   tvm_flow_null_prompt(flow, &cond, &uncond, &error);
 *   const tvm_flow_request request = {.noise = noise, .cond = cond, .uncond = uncond};
 *   ...
 *   tvm_flow_prompt_close(&uncond);
 *   tvm_flow_prompt_close(&cond);
 *
 * A negative prompt is a second file, opened in the place of the null caption.
 *
 * The file, little endian, nothing between its parts:
 *
 *   magic "TVMFPRM\0", uint32 schema (1), uint32 header bytes (24), uint32 text_tokens, uint32 text_channels
 *   tokens float32 [text_tokens][text_channels], all finite
 *   mask float32 [text_tokens], added to scores: 0 keeps a token, -1e9 hides it; none above 0, one 0 at least
 *   sha256 of all before it
 */
#ifndef TVM_FLOW_PROMPT_H
#define TVM_FLOW_PROMPT_H

#include "tvm_flow.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Reads and checks `path`, which fits every bundle of the text_tokens and text_channels that `flow` has. What *out
 * points to is the caller's, until tvm_flow_prompt_close; it outlives the handle. On failure *out is zero and nothing
 * is held. May be called while another thread runs the handle.
 *
 * INVALID_ARGUMENT   a null pointer, or a prompt of another size than the bundle's
 * FILE_ERROR         absent, unreadable, not a regular file
 * CORRUPT            not such a file, cut or damaged         WRONG_SCHEMA  of another version         NO_MEMORY */
TVM_FLOW_API tvm_flow_status tvm_flow_prompt_open(const char *path, const tvm_flow *flow, tvm_flow_prompt *out,
                                                  tvm_flow_error *error);

/* The null caption, which lies in the bundle's golden.bin, under a copy of the mask of `cond`: what the unconditional
 * branch was calibrated with. Otherwise as tvm_flow_prompt_open. */
TVM_FLOW_API tvm_flow_status tvm_flow_null_prompt(const tvm_flow *flow, const tvm_flow_prompt *cond,
                                                  tvm_flow_prompt *out, tvm_flow_error *error);

/* Frees what the two above filled, and zeroes it; NULL and a zeroed prompt are allowed. */
TVM_FLOW_API void tvm_flow_prompt_close(tvm_flow_prompt *prompt);

#ifdef __cplusplus
}
#endif
#endif
