/* golden.bin: float32 arrays without a header, in this order: noise [latent], conditional tokens and mask,
 * unconditional tokens and mask, expected latents [latent]. The lengths follow from steps.bin, as does its sha256.
 * What steps draw is made for the seed 0. */
#include <string.h>

#include "flow.h"

static tvm_flow_status compare(const float *expected, const float *got, uint64_t count, tvm_flow_error *error) {
  uint64_t first = count, different = 0;
  for (uint64_t i = 0; i < count; i++)
    if (memcmp(&expected[i], &got[i], sizeof(float)) != 0) {
      if (different++ == 0) first = i;
    }
  if (different == 0) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_NOT_GOLDEN,
                   "golden.bin: %llu of %llu latents differ; first %llu: expected %.9g, got %.9g; compile for this "
                   "machine and pack there",
                   (unsigned long long)different, (unsigned long long)count, (unsigned long long)first,
                   (double)expected[first], (double)got[first]);
}

static tvm_flow_status run_golden(tvm_flow *flow, const flow_map *map, float *got, tvm_flow_error *error) {
  const flow_index *index = &flow->index;
  uint64_t tokens = index->header->text_tokens;
  const float *noise = (const void *)map->data;
  const float *cond = noise + index->latent_floats;
  const float *uncond = cond + index->text_floats + tokens;
  const float *expected = uncond + index->text_floats + tokens;
  const tvm_flow_request request = {.noise = noise,
                                    .cond = {.tokens = cond, .mask = cond + index->text_floats},
                                    .uncond = {.tokens = uncond, .mask = uncond + index->text_floats}};
  const flow_index_header *h = index->header;
  uint32_t steps = h->golden_steps ? h->golden_steps : h->steps;
  tvm_flow_status s = flow_denoise(flow, &request, steps, got, NULL, NULL, error);
  return s ? s : compare(expected, got, index->latent_floats, error);
}

tvm_flow_status flow_unchecked(const char *file, tvm_flow_error *error) {
  return flow_fail(error, TVM_FLOW_NOT_GOLDEN,
                   "%s: expected what was computed, got a bundle that is unchecked (--check none): nothing to compare "
                   "with; compile it where its target can be checked", file);
}

tvm_flow_status flow_map_golden(const char *bundle_dir, const flow_index *index, flow_map *out, tvm_flow_error *error) {
  uint64_t bytes = 8 * (index->latent_floats + index->text_floats + index->header->text_tokens);
  tvm_flow_status s = flow_map_file(index->host, bundle_dir, "golden.bin", bytes, out, error);
  if (!s && out->bytes != bytes) s = flow_wrong_bytes(error, "golden.bin", bytes, out->bytes);
  return s ? s : flow_check_hash("golden.bin", out, index->header->golden_sha256, error);
}

static tvm_flow_status verify(tvm_flow *flow, tvm_flow_error *error) {
  const flow_index *index = &flow->index;
  flow_map map = {0};
  if (index->header->golden_steps == FLOW_NOT_COMPUTED) return flow_unchecked("golden.bin", error);
  tvm_flow_status s = flow_map_golden(flow->function.bundle_dir, index, &map, error);
  float *got = s ? NULL : flow_alloc(index->host, index->latent_floats * sizeof(float));
  if (!s && !got) s = flow_no_memory(error, "latents");
  if (!s) s = run_golden(flow, &map, got, error);
  flow_free(index->host, got);
  flow_unmap(&map);
  return s;
}

tvm_flow_status tvm_flow_verify(tvm_flow *flow, tvm_flow_error *error) {
  if (!flow) return flow_null(error, "tvm_flow_verify");
  tvm_flow_status s = flow_function_take(&flow->function, "tvm_flow_verify", error);
  if (s) return s;
  s = verify(flow, error);
  flow_function_leave(&flow->function);
  return s;
}
