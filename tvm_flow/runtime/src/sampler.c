#include <stddef.h>
#include <string.h>

#include "flow.h"
#include "update.h"

tvm_flow_status tvm_flow_velocity(tvm_flow *flow, uint32_t step, uint32_t branch, const float *z,
                                  const tvm_flow_prompt *prompt, float *velocity, tvm_flow_error *error) {
  if (!flow || !z || !prompt || !prompt->tokens || !prompt->mask || !velocity)
    return flow_null(error, "tvm_flow_velocity");
  const flow_index_header *h = flow->index.header;
  if (step >= h->steps || branch >= h->branches)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT,
                     "tvm_flow_velocity: expected step below %u and branch below %u, got %u and %u", h->steps,
                     h->branches, step, branch);
  tvm_flow_status s = flow_expect_finite("step", step, "latents given to it", z, flow->index.latent_floats, error);
  if (!s) s = flow_function_take(&flow->function, "tvm_flow_velocity", error);
  if (s) return s;
  flow->prompt_group[branch] = FLOW_NO_GROUP;
  s = flow_step(flow, step, branch, z, prompt, velocity, error);
  flow_function_leave(&flow->function);
  return s;
}

static tvm_flow_status draw(tvm_flow *flow, uint32_t step, const tvm_flow_request *request, tvm_flow_error *error) {
  uint64_t count = flow->index.latent_floats;
  if (!request->draw) tvm_flow_gaussian(request->seed, (uint64_t)step + 1, flow->fresh, count);
  else if (request->draw(request->draw_user, step, flow->fresh, count))
    return flow_fail(error, TVM_FLOW_CANCELLED, "step %u: the draw of noise asked to stop", step);
  return TVM_FLOW_OK;
}

static tvm_flow_status denoise_step(tvm_flow *flow, uint32_t step, const tvm_flow_request *request,
                                    tvm_flow_error *error) {
  const flow_index *index = &flow->index;
  const flow_index_header *h = index->header;
  const tvm_flow_prompt *prompts[2] = {&request->cond, &request->uncond};
  tvm_flow_status s = index->updates[step].sigma > 0 ? draw(flow, step, request, error) : TVM_FLOW_OK;
  for (uint32_t branch = 0; !s && branch < h->branches; branch++)
    s = flow_step(flow, step, branch, flow->z, prompts[branch], flow->prediction[branch], error);
  if (s) return s;
  const flow_update_inputs inputs = {
      .row = &index->updates[step],
      .cfg = h->cfg_scale,
      .count = index->latent_floats,
      .guided = h->branches == 2 ? index->latent_floats / h->latent_shape[0] * h->guided_channels : 0,
      .cond = flow->prediction[0],
      .uncond = flow->prediction[1],
      .variance = h->output_channels == h->latent_shape[0] ? NULL : flow->prediction[0] + index->latent_floats,
      .fresh = flow->fresh};
  flow_update(&inputs, flow->z);
  return flow_expect_finite("step", step, "latents after it", flow->z, index->latent_floats, error);
}

static int complete(const tvm_flow *flow, const tvm_flow_request *r) {
  if (!r->noise || !r->cond.tokens || !r->cond.mask) return 0;
  return flow->index.header->branches == 1 || (r->uncond.tokens && r->uncond.mask);
}

tvm_flow_status tvm_flow_generate(tvm_flow *flow, const tvm_flow_request *request, float *latents,
                                  tvm_flow_progress progress, void *user, tvm_flow_error *error) {
  if (!flow || !request || !latents || !complete(flow, request)) return flow_null(error, "tvm_flow_generate");
  const uint64_t shortest = offsetof(tvm_flow_request, preview);
  const uint64_t bytes = request->struct_bytes ? request->struct_bytes : shortest;
  tvm_flow_request read = {0};
  if (bytes != shortest && bytes != sizeof read)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "request.struct_bytes: expected %zu, got %llu; set it to "
                     "sizeof(tvm_flow_request)", sizeof read, (unsigned long long)bytes);
  memcpy(&read, request, (size_t)bytes);
  tvm_flow_status s = flow_function_take(&flow->function, "tvm_flow_generate", error);
  if (s) return s;
  s = flow_denoise(flow, &read, flow->index.header->steps, latents, progress, user, error);
  flow_function_leave(&flow->function);
  return s;
}

tvm_flow_status flow_denoise(tvm_flow *flow, const tvm_flow_request *request, uint32_t steps, float *latents,
                             tvm_flow_progress progress, void *user, tvm_flow_error *error) {
  const uint64_t floats = flow->index.latent_floats;
  const size_t latent_bytes = (size_t)floats * sizeof(float);
  tvm_flow_status s = flow_expect_finite("step", 0, "noise given to it", request->noise, floats, error);
  if (s) return s;
  memcpy(flow->z, request->noise, latent_bytes);
  for (int branch = 0; branch < 2; branch++) flow->prompt_group[branch] = FLOW_NO_GROUP;
  for (uint32_t step = 0; step < steps; step++) {
    if ((s = denoise_step(flow, step, request, error))) return s;
    if (request->preview && request->preview(request->preview_user, step + 1, steps, flow->z, floats))
      return flow_fail(error, TVM_FLOW_CANCELLED, "the preview asked to stop after step %u of %u", step + 1, steps);
    if (progress && progress(user, step + 1, steps))
      return flow_fail(error, TVM_FLOW_CANCELLED, "cancelled after step %u of %u", step + 1, steps);
  }
  memcpy(latents, flow->z, latent_bytes);
  return TVM_FLOW_OK;
}
