/* Frames from latents, for bundles that were compiled with their autoencoder's decoder.
 *
 *   tvm_flow_decoder *decoder;
 *   tvm_flow_decoder_open("model.bundle", NULL, &decoder, &error);
 *   tvm_flow_decode_rgb8(decoder, latents, frames, &error);
 *   tvm_flow_decoder_close(decoder);
 *
 * A decoder is a handle of its own, with its own threads, memory and weights: a board that is short of memory closes
 * the tvm_flow that made the latents first. What tvm_flow.h says of threads, files and errors holds here too.
 */
#ifndef TVM_FLOW_DECODER_H
#define TVM_FLOW_DECODER_H

#include "tvm_flow_trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tvm_flow_decoder tvm_flow_decoder;

/* What a decoder makes of what. */
typedef struct {
  uint32_t latent_shape[4]; /* C, T, h, w */
  uint32_t chunk;           /* latent frames that are decoded at a time; T is a multiple */
  uint32_t frames;          /* of the video */
  uint32_t height;
  uint32_t width;
  uint32_t threads;
  uint64_t latent_floats;
  uint64_t frame_values; /* of the video: frames * height * width * 3 */
  uint64_t arena_bytes;
  uint64_t weights_bytes;
} tvm_flow_decoder_description;

/* Opens and checks the decoder of a bundle; TVM_FLOW_FILE_ERROR when the bundle has none. options may be NULL; a
 * decoder that is part of the program has the row "decoder" among the linked. On failure *out is NULL and nothing is
 * held. */
TVM_FLOW_API tvm_flow_status tvm_flow_decoder_open(const char *bundle_dir, const tvm_flow_options *options,
                                                   tvm_flow_decoder **out, tvm_flow_error *error);

/* As tvm_flow_close. */
TVM_FLOW_API tvm_flow_status tvm_flow_decoder_close(tvm_flow_decoder *decoder);

/* As tvm_flow_describe_sized. */
TVM_FLOW_API void tvm_flow_decoder_describe_sized(const tvm_flow_decoder *decoder, tvm_flow_decoder_description *out,
                                                  size_t bytes);
#define tvm_flow_decoder_describe(decoder, out) \
  tvm_flow_decoder_describe_sized(decoder, out, sizeof(tvm_flow_decoder_description))

/* latents float32 [latent_shape] to frames float32 [frames, height, width, 3], red, green, blue in 0..1. Frames are
 * written chunk by chunk, also when a later chunk fails. NOT_FINITE when one would hold NaN or an infinity, with the
 * number of its chunk. */
TVM_FLOW_API tvm_flow_status tvm_flow_decode(tvm_flow_decoder *decoder, const float *latents, float *frames,
                                             tvm_flow_error *error);

/* The same as bytes: 255 times the value, rounded to nearest, ties to even. */
TVM_FLOW_API tvm_flow_status tvm_flow_decode_rgb8(tvm_flow_decoder *decoder, const float *latents, uint8_t *frames,
                                                  tvm_flow_error *error);

/* Decodes the latents of the bundle's golden output and compares the frames with those of the machine that packed. */
TVM_FLOW_API tvm_flow_status tvm_flow_decoder_verify(tvm_flow_decoder *decoder, tvm_flow_error *error);

/* As tvm_flow_set_trace; `step` counts chunks. */
TVM_FLOW_API tvm_flow_status tvm_flow_decoder_set_trace(tvm_flow_decoder *decoder, tvm_flow_trace trace, void *user);

#ifdef __cplusplus
}
#endif
#endif
