/* Latents to frames, a chunk of latent frames at a time. */
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "../include/tvm_flow_control.h"
#include "decoder.h"

/* [C, T, h, w] -> [C, chunk, h, w] in the plan's input. */
static void gather(const flow_decoder_file *file, const float *latents, uint64_t chunk, float *input) {
  const uint32_t channels = file->header.latent_shape[0];
  const uint64_t part = file->latent_floats / channels;
  for (uint32_t c = 0; c < channels; c++)
    memcpy(input + c * part, latents + (c * file->chunks + chunk) * part, part * sizeof *input);
}

static void to_bytes(const float *frames, uint64_t values, uint8_t *bytes) {
  for (uint64_t i = 0; i < values; i++) {
    float scaled = frames[i] * 255.0f;
    bytes[i] = scaled > 0.0f ? (uint8_t)(scaled < 255.0f ? rintf(scaled) : 255.0f) : 0;
  }
}

static tvm_flow_status run(tvm_flow_decoder *decoder, const tvm_flow_decode_request *request, tvm_flow_error *error) {
  const flow_decoder_file *file = &decoder->file;
  const flow_plan *plan = &decoder->function.plans[0];
  const uint32_t chunks = (uint32_t)file->chunks;
  const uint64_t values = file->frame_values;
  tvm_flow_status s = flow_plan_step(plan, 0, error);
  for (uint32_t chunk = 0; !s && chunk < chunks; chunk++) {
    gather(file, request->latents, chunk, flow_plan_input(plan, 0));
    if ((s = flow_function_run(&decoder->function, 0, FLOW_STEP, chunk, 0, error))) return s;
    const float *made = flow_plan_output(plan);
    if ((s = flow_expect_finite("chunk", chunk, "frames", made, values, error))) return s;
    if (request->frames) memcpy(request->frames + chunk * values, made, (size_t)values * sizeof *made);
    if (request->rgb8) to_bytes(made, values, request->rgb8 + chunk * values);
    if (request->progress && request->progress(request->user, chunk + 1, chunks))
      s = flow_fail(error, TVM_FLOW_CANCELLED, "cancelled after chunk %u of %u", chunk + 1, chunks);
  }
  return s;
}

static tvm_flow_status decode(tvm_flow_decoder *decoder, const char *name, const tvm_flow_decode_request *request,
                              tvm_flow_error *error) {
  if (!decoder || !request->latents || (!request->frames && !request->rgb8)) return flow_null(error, name);
  tvm_flow_status s = flow_function_take(&decoder->function, name, error);
  if (s) return s;
  s = run(decoder, request, error);
  flow_function_leave(&decoder->function);
  return s;
}

tvm_flow_status tvm_flow_decode(tvm_flow_decoder *decoder, const float *latents, float *frames, tvm_flow_error *error) {
  const tvm_flow_decode_request request = {.latents = latents, .frames = frames};
  return decode(decoder, "tvm_flow_decode", &request, error);
}

tvm_flow_status tvm_flow_decode_rgb8(tvm_flow_decoder *decoder, const float *latents, uint8_t *frames,
                                     tvm_flow_error *error) {
  const tvm_flow_decode_request request = {.latents = latents, .rgb8 = frames};
  return decode(decoder, "tvm_flow_decode_rgb8", &request, error);
}

tvm_flow_status tvm_flow_decode_with(tvm_flow_decoder *decoder, const tvm_flow_decode_request *request,
                                     tvm_flow_error *error) {
  tvm_flow_decode_request read = {.struct_bytes = sizeof read};
  const size_t pointer = offsetof(tvm_flow_decode_request, latents);
  tvm_flow_status s = flow_read_struct("decode_request", pointer, request, &read, error);
  return s ? s : decode(decoder, "tvm_flow_decode_with", &read, error);
}

static tvm_flow_status verify_frames(tvm_flow_decoder *decoder, const float *latents, tvm_flow_error *error) {
  const uint64_t bytes = decoder->file.chunks * decoder->file.frame_values * sizeof(float);
  const flow_host *host = &decoder->function.context.host;
  float *frames = flow_alloc(host, bytes);
  if (!frames) return flow_no_memory(error, "frames");
  uint8_t digest[FLOW_SHA256_BYTES];
  const tvm_flow_decode_request request = {.latents = latents, .frames = frames};
  tvm_flow_status s = run(decoder, &request, error);
  flow_sha256((const void *)frames, (size_t)bytes, digest);
  flow_free(host, frames);
  if (!s && memcmp(digest, decoder->file.header.golden_sha256, sizeof digest) != 0)
    s = flow_fail(error, TVM_FLOW_NOT_GOLDEN,
                  "decoder.bin: expected the frames of the machine that packed, got others; compile for this machine "
                  "and pack there");
  return s;
}

/* golden.bin ends in the latents; steps.bin has its hash. */
static tvm_flow_status verify(tvm_flow_decoder *decoder, tvm_flow_error *error) {
  const uint64_t latents = decoder->file.chunks * decoder->file.latent_floats;
  static const uint8_t not_computed[FLOW_SHA256_BYTES];
  if (memcmp(decoder->file.header.golden_sha256, not_computed, sizeof not_computed) == 0)
    return flow_unchecked("decoder.bin", error);
  flow_map map = {0};
  flow_index index;
  const char *folder = decoder->function.bundle_dir;
  tvm_flow_status s = flow_index_open(folder, &decoder->function.context.host, &index, error);
  if (!s && index.latent_floats != latents)
    s = flow_corrupt(error, "decoder.bin", "latent values, those of steps.bin", index.latent_floats, latents);
  if (!s) s = flow_map_golden(folder, &index, &map, error);
  if (!s) s = verify_frames(decoder, (const void *)(map.data + (map.bytes - latents * sizeof(float))), error);
  flow_unmap(&map);
  flow_index_close(&index);
  return s;
}

tvm_flow_status tvm_flow_decoder_verify(tvm_flow_decoder *decoder, tvm_flow_error *error) {
  if (!decoder) return flow_null(error, "tvm_flow_decoder_verify");
  tvm_flow_status s = flow_function_take(&decoder->function, "tvm_flow_decoder_verify", error);
  if (s) return s;
  s = verify(decoder, error);
  flow_function_leave(&decoder->function);
  return s;
}
