#include "decoder.h"

#include <stdlib.h>
#include <string.h>

#include "flow.h"

static tvm_flow_status open_weights(tvm_flow_decoder *decoder, int checked, tvm_flow_error *error) {
  static const char *const name = "decoder_weights.bin";
  const flow_decoder_header *h = &decoder->file.header;
  tvm_flow_status s = flow_map_file(decoder->bundle_dir, name, &decoder->weights, error);
  if (s) return s;
  if (decoder->weights.bytes != h->weights_bytes)
    return flow_fail(error, TVM_FLOW_CORRUPT, "%s: expected %llu bytes, got %llu; copy the bundle again", name,
                     (unsigned long long)h->weights_bytes, (unsigned long long)decoder->weights.bytes);
  return checked ? TVM_FLOW_OK : flow_check_hash(name, &decoder->weights, h->weights_sha256, error);
}

static tvm_flow_status open_library(tvm_flow_decoder *decoder, const tvm_flow_options *options, tvm_flow_error *error) {
  flow_library library = {0};
  decoder->header = (flow_index_header){.weights_bytes = decoder->file.header.weights_bytes};
  decoder->index = (flow_index){.header = &decoder->header,
                                .groups = &decoder->file.header.library,
                                .latent_floats = decoder->file.latent_floats,
                                .output_floats = decoder->file.frame_values,
                                .decodes = 1};
  tvm_flow_status s = flow_library_open(decoder->bundle_dir, &decoder->index, 0, options, &library, error);
  if (s) return s;
  decoder->arena = flow_alloc(library.descriptor->arena_bytes);
  if (!decoder->arena)
    s = flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for an arena of %llu bytes; free memory",
                  (unsigned long long)library.descriptor->arena_bytes);
  if (!s) s = flow_plan_bind(&library, decoder->arena, NULL, decoder->weights.data, &decoder->plan, error);
  if (s) flow_library_close(&library);
  else decoder->bound = 1;
  return s;
}

static tvm_flow_status fill(tvm_flow_decoder *decoder, const char *bundle_dir, const tvm_flow_options *options,
                            tvm_flow_error *error) {
  decoder->bundle_dir = strdup(bundle_dir);
  if (!decoder->bundle_dir) return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for a path; free memory");
  tvm_flow_status s = flow_decoder_file_read(bundle_dir, &decoder->file, error);
  if (!s) s = open_weights(decoder, options->weights_checked != 0, error);
  if (!s) s = open_library(decoder, options, error);
  if (!s) s = flow_create_pool(options, &decoder->context.pool, error);
  return s;
}

tvm_flow_status tvm_flow_decoder_open(const char *bundle_dir, const tvm_flow_options *options, tvm_flow_decoder **out,
                                      tvm_flow_error *error) {
  tvm_flow_options read;
  if (!bundle_dir || !out)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT,
                     "tvm_flow_decoder_open: expected a directory and an out pointer");
  *out = NULL;
  tvm_flow_status s = flow_read_options(options, &read, error);
  if (s) return s;
  tvm_flow_decoder *decoder = calloc(1, sizeof *decoder);
  if (!decoder) return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for a handle; free memory");
  pthread_mutex_init(&decoder->context.lock, NULL);
  s = fill(decoder, bundle_dir, &read, error);
  if (s) tvm_flow_decoder_close(decoder);
  else *out = decoder;
  return s;
}

void tvm_flow_decoder_close(tvm_flow_decoder *decoder) {
  if (!decoder) return;
  flow_pool_destroy(decoder->context.pool);
  if (decoder->bound) flow_plan_free(&decoder->plan);
  free(decoder->arena);
  flow_unmap(&decoder->weights);
  pthread_mutex_destroy(&decoder->context.lock);
  free(decoder->bundle_dir);
  free(decoder);
}

void tvm_flow_decoder_describe(const tvm_flow_decoder *decoder, tvm_flow_decoder_description *out) {
  const flow_decoder_file *file = &decoder->file;
  const flow_decoder_header *h = &file->header;
  *out = (tvm_flow_decoder_description){.chunk = h->chunk,
                                        .frames = (uint32_t)file->chunks * h->frame_shape[0],
                                        .height = h->frame_shape[1],
                                        .width = h->frame_shape[2],
                                        .threads = flow_pool_threads(decoder->context.pool),
                                        .latent_floats = file->chunks * file->latent_floats,
                                        .frame_values = file->chunks * file->frame_values,
                                        .arena_bytes = decoder->plan.library.descriptor->arena_bytes,
                                        .weights_bytes = h->weights_bytes};
  memcpy(out->latent_shape, h->latent_shape, sizeof out->latent_shape);
}

void tvm_flow_decoder_set_trace(tvm_flow_decoder *decoder, tvm_flow_trace trace, void *user) {
  decoder->trace = trace;
  decoder->trace_user = user;
}
