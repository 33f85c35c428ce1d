/* Latents while they are made, and a picture of them that costs no decoder. */
#ifndef TVM_FLOW_PREVIEW_H
#define TVM_FLOW_PREVIEW_H

#include "tvm_flow_base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Called after each step, before progress, with the number of steps done, their total and the latents so far, float32
 * [latent_shape], which are the handle's and valid during the call; non-zero cancels. */
typedef int (*tvm_flow_preview)(void *user, uint32_t done, uint32_t steps, const float *latents, uint64_t count);

/* latents [channels][places] to bytes [places][3], red, green, blue: of each place
 *
 *   255 * (factors[colour][channels] + sum of factors[colour][channel] * latents[channel][place])
 *
 * rounded to nearest, from 0 to 255, not a number being 0. factors is [3][channels + 1], as least squares between
 * latents and frames of their size give it for an autoencoder; NULL: half, and a sixth of the channel of the colour's
 * number (of the last channel where there are fewer), which shows shapes in false colours. No pointer else is NULL. */
TVM_FLOW_API void tvm_flow_preview_rgb8(const float *latents, uint32_t channels, uint64_t places, const float *factors,
                                        uint8_t *rgb);

#ifdef __cplusplus
}
#endif
#endif
