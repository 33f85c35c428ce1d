#include "decoder.h"

#include <string.h>

/* Of as many values as the library makes, which rows and columns? It says so itself where its frames have axes. */
static tvm_flow_status check_shape(const tvm_flow_decoder *decoder, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = decoder->function.plans[0].library.descriptor;
  const tvm_flow_tensor *made = &d->tensors[d->output];
  const uint32_t *said = decoder->file.header.frame_shape;
  tvm_flow_status s = TVM_FLOW_OK;
  for (int i = 0; !s && made->ndim == 4 && i < 4; i++)
    if (made->shape[i] != said[i])
      s = flow_corrupt(error, "decoder.bin", "an extent of its library's frames", (uint64_t)made->shape[i], said[i]);
  return s;
}

static tvm_flow_status fill(tvm_flow_decoder *decoder, const char *bundle_dir, const tvm_flow_options *options,
                            const flow_host *host, tvm_flow_error *error) {
  const flow_decoder_file *file = &decoder->file;
  tvm_flow_status s = flow_function_init(&decoder->function, bundle_dir, host, error);
  if (!s) s = flow_decoder_file_read(&decoder->function.context.host, bundle_dir, &decoder->file, error);
  const uint64_t held = flow_rounded(sizeof *decoder) + flow_rounded(strlen(bundle_dir) + 1);
  const flow_signature signature = {.kind = &flow_decoder_graph,
                                    .host = &decoder->function.context.host,
                                    .groups = &file->header.library,
                                    .num_groups = 1,
                                    .branches = 1,
                                    .input_floats = {file->latent_floats},
                                    .output_floats = file->frame_values,
                                    .weights_bytes = file->header.weights_bytes,
                                    .weights_first = file->header.weights_first,
                                    .weights_sha256 = file->header.weights_sha256,
                                    .table_bytes = held};
  if (!s) s = flow_function_open(&decoder->function, &signature, options, error);
  return s || decoder->function.only_plan ? s : check_shape(decoder, error);
}

/* `name` is that of the public function. */
static tvm_flow_status make(const char *name, const char *bundle_dir, const tvm_flow_options *options, int only_plan,
                            tvm_flow_decoder **out, tvm_flow_error *error) {
  tvm_flow_options read;
  if (!bundle_dir || !out) return flow_null(error, name);
  *out = NULL;
  tvm_flow_status s = flow_read_options(options, &read, error);
  if (s) return s;
  const flow_host host = flow_host_of(&read);
  tvm_flow_decoder *decoder = flow_alloc(&host, sizeof *decoder);
  if (!decoder) return flow_no_memory(error, "a handle");
  decoder->function.only_plan = only_plan;
  const flow_float_mode mode = flow_float_enter();
  s = fill(decoder, bundle_dir, &read, &host, error);
  if (s) tvm_flow_decoder_close(decoder);
  else *out = decoder;
  flow_float_set(mode);
  return s;
}

tvm_flow_status tvm_flow_decoder_open(const char *bundle_dir, const tvm_flow_options *options, tvm_flow_decoder **out,
                                      tvm_flow_error *error) {
  return make("tvm_flow_decoder_open", bundle_dir, options, 0, out, error);
}

tvm_flow_status tvm_flow_decoder_plan_sized(const char *bundle_dir, const tvm_flow_options *options,
                                            tvm_flow_memory *out, size_t bytes, tvm_flow_error *error) {
  tvm_flow_decoder *decoder;
  if (!out) return flow_null(error, "tvm_flow_decoder_plan");
  const tvm_flow_status s = make("tvm_flow_decoder_plan", bundle_dir, options, 1, &decoder, error);
  if (s) return s;
  flow_write_struct(&decoder->function.memory, sizeof decoder->function.memory, out, bytes);
  return tvm_flow_decoder_close(decoder);
}

tvm_flow_status tvm_flow_decoder_close(tvm_flow_decoder *decoder) {
  if (!decoder) return TVM_FLOW_OK;
  const tvm_flow_status s = flow_function_take(&decoder->function, "tvm_flow_decoder_close", NULL);
  if (s) return s;
  const flow_host host = decoder->function.context.host;
  const flow_float_mode mode = decoder->function.mode;
  flow_function_close(&decoder->function);
  flow_free(&host, decoder);
  flow_float_set(mode);
  return TVM_FLOW_OK;
}

void tvm_flow_decoder_describe_sized(const tvm_flow_decoder *decoder, tvm_flow_decoder_description *out,
                                     size_t bytes) {
  const flow_decoder_file *file = &decoder->file;
  const flow_decoder_header *h = &file->header;
  tvm_flow_decoder_description all = {.chunk = h->chunk,
                                        .frames = (uint32_t)file->chunks * h->frame_shape[0],
                                        .height = h->frame_shape[1],
                                        .width = h->frame_shape[2],
                                        .threads = flow_pool_threads(decoder->function.context.pool),
                                        .latent_floats = file->chunks * file->latent_floats,
                                        .frame_values = file->chunks * file->frame_values,
                                        .arena_bytes = decoder->function.devices.rows[0].arena_bytes,
                                        .weights_bytes = h->weights_bytes};
  memcpy(all.latent_shape, h->latent_shape, sizeof all.latent_shape);
  flow_write_struct(&all, sizeof all, out, bytes);
}

tvm_flow_status tvm_flow_decoder_set_trace(tvm_flow_decoder *decoder, tvm_flow_trace trace, void *user) {
  return flow_function_set_trace(&decoder->function, trace, user);
}
