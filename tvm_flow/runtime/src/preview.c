#include "../include/tvm_flow_preview.h"

#include <math.h>

#include "float_mode.h"

static float colour_of(const float *latents, uint32_t channels, uint64_t places, const float *factors,
                       uint32_t colour) {
  if (!factors) return 0.5f + latents[(colour < channels ? colour : channels - 1) * places] / 6.0f;
  const float *row = factors + (uint64_t)colour * (channels + 1);
  float sum = row[channels];
  for (uint32_t c = 0; c < channels; c++) sum += row[c] * latents[c * places];
  return sum;
}

void tvm_flow_preview_rgb8(const float *latents, uint32_t channels, uint64_t places, const float *factors,
                           uint8_t *rgb) {
  const flow_float_mode before = flow_float_enter();
  for (uint64_t place = 0; channels && place < places; place++)
    for (uint32_t colour = 0; colour < 3; colour++) {
      const float value = 255.0f * colour_of(latents + place, channels, places, factors, colour);
      rgb[3 * place + colour] = value > 0.0f ? (uint8_t)(value < 255.0f ? rintf(value) : 255.0f) : 0;
    }
  flow_float_set(before);
}
