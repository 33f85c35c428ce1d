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
      default:
        fold_affine(out, step + fold->a, (const void *)(weights + fold->b),
                    fold->c == TVM_FLOW_NONE ? NULL : (const void *)(weights + fold->c), fold->count);
    }
  }
}
