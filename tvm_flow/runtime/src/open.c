#include <string.h>

#include "flow.h"

static uint64_t latent_bytes(const flow_index *index) {
  const uint64_t latent = flow_rounded(index->latent_floats * sizeof(float));
  return (index->draws_noise ? 2 : 1) * latent + 2 * flow_rounded(index->output_floats * sizeof(float));
}

/* Of the handle, its path and steps.bin. */
static uint64_t table_bytes(const tvm_flow *flow, const char *bundle_dir) {
  return flow_rounded(sizeof *flow) + flow_rounded(strlen(bundle_dir) + 1) +
         flow_rounded(flow->index.file.map.bytes + 1) + flow_rounded((uint64_t)flow->index.header->sampler_bytes + 1);
}

static tvm_flow_status allocate(tvm_flow *flow, tvm_flow_error *error) {
  const flow_host *host = &flow->function.context.host;
  const uint64_t latent = flow->index.latent_floats * sizeof(float), output = flow->index.output_floats * sizeof(float);
  flow->z = flow_alloc(host, latent);
  for (int i = 0; i < 2; i++) flow->prediction[i] = flow_alloc(host, output);
  if (flow->index.draws_noise) flow->fresh = flow_alloc(host, latent);
  if (flow->z && flow->prediction[0] && flow->prediction[1] && (flow->fresh || !flow->index.draws_noise))
    return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for latents of %llu bytes and predictions of %llu; "
                   "free memory", (unsigned long long)latent, (unsigned long long)output);
}

static tvm_flow_status fill(tvm_flow *flow, const char *bundle_dir, const tvm_flow_options *options,
                            const flow_host *host, tvm_flow_error *error) {
  tvm_flow_status s = flow_function_init(&flow->function, bundle_dir, host, error);
  if (!s) s = flow_index_open(bundle_dir, &flow->function.context.host, &flow->index, error);
  if (s) return s;
  const flow_index *index = &flow->index;
  const flow_index_header *h = index->header;
  const flow_signature signature = {.kind = &flow_step_graph,
                                    .host = &flow->function.context.host,
                                    .groups = index->groups,
                                    .num_groups = h->groups,
                                    .branches = h->branches,
                                    .step_floats = h->step_floats,
                                    .input_floats = {index->latent_floats, index->text_floats, h->text_tokens},
                                    .output_floats = index->output_floats,
                                    .weights_bytes = h->weights_bytes,
                                    .weights_first = h->weights_first,
                                    .weights_sha256 = h->weights_sha256,
                                    .table_bytes = table_bytes(flow, bundle_dir),
                                    .latent_bytes = latent_bytes(index)};
  s = flow_function_open(&flow->function, &signature, options, error);
  return s || flow->function.only_plan ? s : allocate(flow, error);
}

/* `name` is that of the public function. */
static tvm_flow_status make(const char *name, const char *bundle_dir, const tvm_flow_options *options, int only_plan,
                            tvm_flow **out, tvm_flow_error *error) {
  tvm_flow_options read;
  if (!bundle_dir || !out) return flow_null(error, name);
  *out = NULL;
  tvm_flow_status s = flow_read_options(options, &read, error);
  if (s) return s;
  const flow_host host = flow_host_of(&read);
  tvm_flow *flow = flow_alloc(&host, sizeof *flow);
  if (!flow) return flow_no_memory(error, "a handle");
  flow->function.only_plan = only_plan;
  const flow_float_mode mode = flow_float_enter();
  s = fill(flow, bundle_dir, &read, &host, error);
  if (s) tvm_flow_close(flow);
  else *out = flow;
  flow_float_set(mode);
  return s;
}

tvm_flow_status tvm_flow_open(const char *bundle_dir, const tvm_flow_options *options, tvm_flow **out,
                              tvm_flow_error *error) {
  return make("tvm_flow_open", bundle_dir, options, 0, out, error);
}

tvm_flow_status tvm_flow_plan_sized(const char *bundle_dir, const tvm_flow_options *options, tvm_flow_memory *out,
                                    size_t bytes, tvm_flow_error *error) {
  tvm_flow *flow;
  if (!out) return flow_null(error, "tvm_flow_plan");
  const tvm_flow_status s = make("tvm_flow_plan", bundle_dir, options, 1, &flow, error);
  if (s) return s;
  flow_write_struct(&flow->function.memory, sizeof flow->function.memory, out, bytes);
  return tvm_flow_close(flow);
}

tvm_flow_status tvm_flow_close(tvm_flow *flow) {
  if (!flow) return TVM_FLOW_OK;
  const tvm_flow_status s = flow_function_take(&flow->function, "tvm_flow_close", NULL);
  if (s) return s;
  const flow_host host = flow->function.context.host;
  const flow_float_mode mode = flow->function.mode;
  flow_function_close(&flow->function);
  flow_free(&host, flow->z);
  for (int i = 0; i < 2; i++) flow_free(&host, flow->prediction[i]);
  flow_free(&host, flow->fresh);
  flow_index_close(&flow->index);
  flow_free(&host, flow);
  flow_float_set(mode);
  return TVM_FLOW_OK;
}

uint32_t tvm_flow_version(void) { return TVM_FLOW_VERSION; }

void tvm_flow_describe_sized(const tvm_flow *flow, tvm_flow_description *out, size_t bytes) {
  const flow_index_header *h = flow->index.header;
  const flow_device *cpu = &flow->function.devices.rows[0];
  tvm_flow_description all = {.latent_ndim = h->latent_ndim,
                                .latent_floats = flow->index.latent_floats,
                                .output_floats = flow->index.output_floats,
                                .text_tokens = h->text_tokens,
                                .text_channels = h->text_channels,
                                .steps = h->steps,
                                .branches = h->branches,
                                .groups = h->groups,
                                .guided_channels = h->guided_channels,
                                .cfg_scale = h->cfg_scale,
                                .threads = flow_pool_threads(flow->function.context.pool),
                                .arena_bytes = cpu->arena_bytes,
                                .prompt_bytes = cpu->prompt_bytes * h->branches,
                                .weights_bytes = h->weights_bytes,
                                .sampler_json = flow->index.sampler,
                                .timesteps = flow->index.t,
                                .updates = flow->index.updates};
  memcpy(all.latent_shape, h->latent_shape, sizeof h->latent_shape);
  for (uint32_t g = 0; g < h->groups; g++) all.step_bytes += flow->function.plans[g].library.descriptor->step_bytes;
  flow_write_struct(&all, sizeof all, out, bytes);
}

tvm_flow_status tvm_flow_set_trace(tvm_flow *flow, tvm_flow_trace trace, void *user) {
  return flow_function_set_trace(&flow->function, trace, user);
}
