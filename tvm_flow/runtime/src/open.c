#include <stdlib.h>
#include <string.h>

#include "flow.h"

static tvm_flow_status open_weights(tvm_flow *flow, int checked, tvm_flow_error *error) {
  const flow_index_header *h = flow->index.header;
  tvm_flow_status s = flow_map_file(flow->bundle_dir, "weights.bin", &flow->weights, error);
  if (s) return s;
  if (flow->weights.bytes != h->weights_bytes)
    return flow_fail(error, TVM_FLOW_CORRUPT, "weights.bin: expected %llu bytes, got %llu; copy the bundle again",
                     (unsigned long long)h->weights_bytes, (unsigned long long)flow->weights.bytes);
  return checked ? TVM_FLOW_OK : flow_check_hash("weights.bin", &flow->weights, h->weights_sha256, error);
}

static tvm_flow_status open_libraries(tvm_flow *flow, const tvm_flow_options *options, flow_library *libraries,
                                      tvm_flow_error *error) {
  for (uint32_t g = 0; g < flow->index.header->groups; g++) {
    tvm_flow_status s = flow_library_open(flow->bundle_dir, &flow->index, g, options, &libraries[g], error);
    if (s) return s;
    const tvm_flow_library_descriptor *d = libraries[g].descriptor;
    if (d->arena_bytes > flow->arena_bytes) flow->arena_bytes = d->arena_bytes;
    if (d->prompt_bytes > flow->prompt_bytes) flow->prompt_bytes = d->prompt_bytes;
  }
  return TVM_FLOW_OK;
}

static int allocate_prompts(tvm_flow *flow) {
  for (uint32_t branch = 0; branch < flow->index.header->branches; branch++) {
    flow->prompt_group[branch] = FLOW_NO_GROUP;
    flow->prompt[branch] = flow_alloc(flow->prompt_bytes);
    if (!flow->prompt[branch]) return 0;
  }
  return 1;
}

static tvm_flow_status allocate(tvm_flow *flow, tvm_flow_error *error) {
  uint64_t latent_bytes = flow->index.latent_floats * sizeof(float);
  flow->arena = flow_alloc(flow->arena_bytes);
  flow->z = flow_alloc(latent_bytes);
  for (int i = 0; i < 2; i++) flow->prediction[i] = flow_alloc(flow->index.output_floats * sizeof(float));
  if (flow->index.draws_noise) flow->fresh = flow_alloc(latent_bytes);
  int noise = flow->fresh || !flow->index.draws_noise;
  int latents = flow->z && flow->prediction[0] && flow->prediction[1] && noise;
  if (latents && flow->arena && allocate_prompts(flow)) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_NO_MEMORY,
                   "no memory for an arena of %llu bytes and %u prompts of %llu; free memory",
                   (unsigned long long)flow->arena_bytes, flow->index.header->branches,
                   (unsigned long long)flow->prompt_bytes);
}

/* Arena and prompts are as long as the longest plan's, so every library is open before the first plan is bound. */
static tvm_flow_status bind_plans(tvm_flow *flow, const tvm_flow_options *options, tvm_flow_error *error) {
  uint32_t groups = flow->index.header->groups;
  flow->plans = calloc(groups, sizeof *flow->plans);
  flow_library *libraries = calloc(groups, sizeof *libraries);
  tvm_flow_status s = TVM_FLOW_OK;
  if (!flow->plans || !libraries)
    s = flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for %u groups; free memory", groups);
  if (!s) s = open_libraries(flow, options, libraries, error);
  if (!s) s = allocate(flow, error);
  for (uint32_t g = 0; !s && g < groups; g++) {
    s = flow_plan_bind(&libraries[g], flow->arena, flow->prompt[0], flow->weights.data, &flow->plans[g], error);
    if (!s) libraries[g] = (flow_library){0};
    flow->bound = g + 1;
  }
  for (uint32_t g = 0; libraries && g < groups; g++) flow_library_close(&libraries[g]);
  free(libraries);
  return s;
}

static tvm_flow_status fill(tvm_flow *flow, const char *bundle_dir, const tvm_flow_options *options,
                            tvm_flow_error *error) {
  flow->bundle_dir = strdup(bundle_dir);
  if (!flow->bundle_dir) return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for a path; free memory");
  tvm_flow_status s = flow_index_open(bundle_dir, &flow->index, error);
  if (!s) s = open_weights(flow, options->weights_checked != 0, error);
  if (!s) s = bind_plans(flow, options, error);
  return s ? s : flow_create_pool(options, &flow->context.pool, error);
}

tvm_flow_status flow_create_pool(const tvm_flow_options *options, flow_pool **out, tvm_flow_error *error) {
  const flow_pool_options pool = {.threads = options->threads,
                                  .tasks_per_thread = options->tasks_per_thread,
                                  .cpus = options->cpus,
                                  .num_cpus = options->num_cpus};
  return flow_pool_create(&pool, out, error);
}

tvm_flow_status flow_read_options(const tvm_flow_options *given, tvm_flow_options *out, tvm_flow_error *error) {
  *out = (tvm_flow_options){.struct_bytes = sizeof *out};
  if (!given) return TVM_FLOW_OK;
  if (given->struct_bytes < sizeof given->struct_bytes || given->struct_bytes > sizeof *out)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.struct_bytes: expected 4 to %zu, got %u; set it to "
                     "sizeof(tvm_flow_options)", sizeof *out, given->struct_bytes);
  memcpy(out, given, given->struct_bytes);
  if (out->num_linked && !out->linked)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.linked: expected %u rows, got NULL; pass the table",
                     out->num_linked);
  return TVM_FLOW_OK;
}

tvm_flow_status tvm_flow_open(const char *bundle_dir, const tvm_flow_options *options, tvm_flow **out,
                              tvm_flow_error *error) {
  tvm_flow_options read;
  if (!bundle_dir || !out)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "tvm_flow_open: expected a directory and an out pointer");
  *out = NULL;
  tvm_flow_status s = flow_read_options(options, &read, error);
  if (s) return s;
  tvm_flow *flow = calloc(1, sizeof *flow);
  if (!flow) return flow_fail(error, TVM_FLOW_NO_MEMORY, "no memory for a handle; free memory");
  pthread_mutex_init(&flow->context.lock, NULL);
  s = fill(flow, bundle_dir, &read, error);
  if (s) tvm_flow_close(flow);
  else *out = flow;
  return s;
}

void tvm_flow_close(tvm_flow *flow) {
  if (!flow) return;
  flow_pool_destroy(flow->context.pool);
  for (uint32_t g = 0; g < flow->bound; g++) flow_plan_free(&flow->plans[g]);
  free(flow->plans);
  free(flow->arena);
  free(flow->z);
  for (int i = 0; i < 2; i++) {
    free(flow->prediction[i]);
    free(flow->prompt[i]);
  }
  free(flow->fresh);
  flow_unmap(&flow->weights);
  flow_index_close(&flow->index);
  pthread_mutex_destroy(&flow->context.lock);
  free(flow->bundle_dir);
  free(flow);
}

void tvm_flow_describe(const tvm_flow *flow, tvm_flow_description *out) {
  const flow_index_header *h = flow->index.header;
  *out = (tvm_flow_description){.latent_ndim = h->latent_ndim,
                                .latent_floats = flow->index.latent_floats,
                                .output_floats = flow->index.output_floats,
                                .text_tokens = h->text_tokens,
                                .text_channels = h->text_channels,
                                .steps = h->steps,
                                .branches = h->branches,
                                .groups = h->groups,
                                .guided_channels = h->guided_channels,
                                .cfg_scale = h->cfg_scale,
                                .threads = flow_pool_threads(flow->context.pool),
                                .arena_bytes = flow->arena_bytes,
                                .prompt_bytes = flow->prompt_bytes * h->branches,
                                .weights_bytes = h->weights_bytes,
                                .sampler_json = flow->index.sampler,
                                .timesteps = flow->index.t,
                                .updates = flow->index.updates};
  memcpy(out->latent_shape, h->latent_shape, sizeof h->latent_shape);
  for (uint32_t g = 0; g < h->groups; g++) out->step_bytes += flow->plans[g].library.descriptor->step_bytes;
}

void tvm_flow_set_trace(tvm_flow *flow, tvm_flow_trace trace, void *user) {
  flow->trace = trace;
  flow->trace_user = user;
}
