#include <string.h>

#include "plan.h"

static void fold_scale(float *out, float scale, const float *weights, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) out[i] = scale * weights[i];
}

static void fold_affine(float *out, const float *step, const float *shift, const float *scale, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    float sum = step[i] + shift[i];
    out[i] = scale ? sum * scale[i] : sum;
  }
}

/* Unsigned, because a damaged bundle must not make it overflow; limited, because it must not convert out of range. */
static void fold_integer(uint32_t *out, float factor, const uint32_t *weights, uint32_t count) {
  const float limit = 16777216.0f;
  float within = factor > limit ? limit : factor < -limit ? -limit : factor;
  uint32_t whole = (uint32_t)(int32_t)within;
  for (uint32_t i = 0; i < count; i++) out[i] = whole * weights[i];
}

/* Bytes, because a float may lose bits that say nothing to it. */
static void fold_flip(uint8_t *out, const float *words, uint32_t bits, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint32_t word;
    memcpy(&word, words + i, sizeof word);
    word ^= bits;
    memcpy(out + 4 * (size_t)i, &word, sizeof word);
  }
}

void flow_fold(const tvm_flow_library_descriptor *descriptor, const uint8_t *weights, const float *step,
               const float *variant, uint8_t *step_block) {
  for (uint32_t i = 0; i < descriptor->num_folds; i++) {
    const tvm_flow_fold *fold = &descriptor->folds[i];
    float *out = (void *)(step_block + fold->out);
    switch (fold->op) {
      case TVM_FLOW_FOLD_COPY:
        for (uint32_t j = 0; j < fold->count; j++) out[j] = variant[fold->a + j];
        break;
      case TVM_FLOW_FOLD_SCALE:
        fold_scale(out, variant[fold->a], (const void *)(weights + fold->b), fold->count);
        break;
      case TVM_FLOW_FOLD_INTEGER:
        fold_integer((void *)out, variant[fold->a], (const void *)(weights + fold->b), fold->count);
        break;
      case TVM_FLOW_FOLD_LESS:
        for (uint32_t j = 0; j < fold->count; j++) out[j] -= variant[fold->a + j];
        break;
      case TVM_FLOW_FOLD_FLIP:
        fold_flip((void *)out, variant + fold->a, (uint32_t)fold->b, fold->count);
        break;
      default:
        fold_affine(out, step + fold->a, (const void *)(weights + fold->b),
                    fold->c == TVM_FLOW_NONE ? NULL : (const void *)(weights + fold->c), fold->count);
    }
  }
}
