#include "function.h"

#include <stddef.h>
#include <string.h>

/* An older program's structure ends with a whole field: one that has a pointer is as long as a number of pointers. */
tvm_flow_status flow_read_struct(const char *name, size_t pointer, const void *given, void *out,
                                 tvm_flow_error *error) {
  uint32_t known, bytes;
  memcpy(&known, out, sizeof known);
  if (!given) return flow_null(error, name);
  memcpy(&bytes, given, sizeof bytes);
  if (bytes < sizeof bytes || bytes > known || bytes % (bytes > pointer ? sizeof(void *) : sizeof bytes))
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "%s.struct_bytes: expected 4 to %u, whole fields, got %u; set "
                     "it to sizeof(tvm_flow_%s)", name, known, bytes, name);
  memcpy(out, given, bytes);
  return TVM_FLOW_OK;
}

void flow_write_struct(const void *all, size_t known, void *out, size_t bytes) {
  memset(out, 0, bytes);
  memcpy(out, all, bytes < known ? bytes : known);
}

tvm_flow_status flow_read_options(const tvm_flow_options *given, tvm_flow_options *out, tvm_flow_error *error) {
  *out = (tvm_flow_options){.struct_bytes = sizeof *out};
  const size_t pointer = offsetof(tvm_flow_options, linked);
  tvm_flow_status s = given ? flow_read_struct("options", pointer, given, out, error) : TVM_FLOW_OK;
  if (s) return s;
  if (out->num_linked && !out->linked)
    return flow_no_rows(error, "linked", out->num_linked);
  if (!out->allocate != !out->release)
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options: expected allocate and release, got one; set both");
  return flow_check_device_types(out, error);
}

static tvm_flow_status check_weights(const char *name, const flow_map *weights, const flow_signature *signature,
                                     tvm_flow_error *error) {
  tvm_flow_status s = weights->bytes == signature->weights_bytes
                          ? flow_check_hash(name, weights, signature->weights_sha256, error)
                          : flow_wrong_bytes(error, name, signature->weights_bytes, weights->bytes);
  /* Weights end in their sha256: those that do are whole, and another bundle's. */
  if (s && flow_check_whole(name, weights, FLOW_SHA256_BYTES, NULL, NULL) == TVM_FLOW_OK)
    s = flow_fail(error, FLOW_FOR(CORRUPT, FOREIGN_WEIGHTS),
                  "%s: expected the weights of this bundle, got those of another; copy the bundle again", name);
  return s;
}

static tvm_flow_status open_weights(flow_function *function, const flow_signature *signature, int checked,
                                    tvm_flow_error *error) {
  const char *name = signature->kind->weights_file;
  const uint64_t bytes = signature->weights_bytes, first = signature->weights_first;
  flow_map *weights = &function->weights;
  if (first > bytes || first % FLOW_MAP_ALIGN)
    return flow_corrupt(error, name, "place of its values, at most", bytes, first);
  /* Longer ones are looked at, for another bundle's, as long as that takes about as long as these. */
  const uint64_t most = bytes > UINT64_MAX / 2 ? bytes : 2 * bytes;
  tvm_flow_status s = flow_map_file(&function->context.host, function->bundle_dir, name, most, weights, error);
  if (s || (checked && weights->bytes == bytes)) return s;
  return check_weights(name, weights, signature, error);
}

static const uint8_t *values_of(const flow_map *weights, const flow_signature *signature) {
  return weights->data ? weights->data + signature->weights_first : NULL;
}

static tvm_flow_status open_libraries(flow_function *function, const flow_signature *signature,
                                      const tvm_flow_options *options, flow_library *libraries, tvm_flow_error *error) {
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t g = 0; !s && g < signature->num_groups; g++) {
    const char *path = signature->groups[g].path;
    s = flow_library_open(function->bundle_dir, signature, g, options, &libraries[g], error);
    if (!s) s = flow_devices_add(&function->devices, path, libraries[g].descriptor, options, error);
  }
  return s;
}

static tvm_flow_status open_devices(flow_function *function, const flow_signature *signature, tvm_flow_error *error) {
  const tvm_flow_device_open_info info = {.struct_bytes = sizeof info,
                                          .branches = signature->branches,
                                          .services = &function->context.services,
                                          .weights = values_of(&function->weights, signature),
                                          .weights_bytes = signature->weights_bytes - signature->weights_first};
  return flow_devices_open(&function->devices, &info, error);
}

/* Memory of a device is as long as its longest plan's, so every library is open before the first device is. */
static tvm_flow_status bind_plans(flow_function *function, const flow_signature *signature,
                                  const tvm_flow_options *options, tvm_flow_error *error) {
  const uint32_t groups = signature->num_groups;
  const flow_host *host = &function->context.host;
  function->plans = flow_alloc(host, groups * sizeof *function->plans);
  flow_library *libraries = flow_alloc(host, groups * sizeof *libraries);
  tvm_flow_status s = TVM_FLOW_OK;
  if (!function->plans || !libraries)
    s = flow_no_memory(error, "step groups");
  if (!s) s = open_libraries(function, signature, options, libraries, error);
  if (!s) s = flow_memory_plan(function, signature, options, libraries, error);
  const int go_on = !s && !function->only_plan;
  if (go_on) s = open_devices(function, signature, error);
  for (uint32_t g = 0; go_on && !s && g < groups; g++) {
    s = flow_plan_bind(&libraries[g], &function->devices, values_of(&function->weights, signature),
                       &function->plans[g], error);
    if (!s) libraries[g] = (flow_library){0};
    function->bound = g + 1;
  }
  for (uint32_t g = 0; libraries && g < groups; g++) flow_library_close(&libraries[g]);
  flow_free(host, libraries);
  return s;
}

static tvm_flow_status create_pool(const tvm_flow_options *options, const flow_host *host, flow_pool **out,
                                   tvm_flow_error *error) {
  const flow_pool_options pool = {.threads = options->threads,
                                  .tasks_per_thread = options->tasks_per_thread,
                                  .cpus = options->cpus,
                                  .num_cpus = options->num_cpus,
                                  .host = host};
  return flow_pool_create(&pool, out, error);
}

tvm_flow_status flow_function_init(flow_function *function, const char *bundle_dir, const flow_host *host,
                                   tvm_flow_error *error) {
  const size_t bytes = strlen(bundle_dir) + 1;
  flow_context_open(&function->context, host);
  function->devices.host = &function->context.host;
  function->process = flow_process();
  if (bytes == 1) /* below it every name would be one of the root */
    return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "bundle_dir: expected a folder, got \"\"; \".\" is this one");
  function->bundle_dir = flow_alloc(host, bytes);
  if (function->bundle_dir) memcpy(function->bundle_dir, bundle_dir, bytes);
  return function->bundle_dir ? TVM_FLOW_OK
                              : flow_no_memory(error, "a path");
}

tvm_flow_status flow_function_open(flow_function *function, const flow_signature *signature,
                                   const tvm_flow_options *options, tvm_flow_error *error) {
  const int checked = function->only_plan || options->weights_checked != 0;
  tvm_flow_status s = open_weights(function, signature, checked, error);
  if (!s) s = bind_plans(function, signature, options, error);
  return s || function->only_plan ? s : create_pool(options, &function->context.host, &function->context.pool, error);
}

void flow_function_close(flow_function *function) {
  const flow_host *host = &function->context.host;
  flow_context_close(&function->context);
  for (uint32_t g = 0; g < function->bound; g++) flow_plan_free(&function->plans[g]);
  flow_free(host, function->plans);
  flow_devices_close(&function->devices);
  flow_unmap(&function->weights);
  flow_free(host, function->bundle_dir);
}

tvm_flow_status flow_function_take(flow_function *function, const char *name, tvm_flow_error *error) {
  if (function->process != flow_process())
    return flow_fail(error, TVM_FLOW_FORKED, "%s: expected a handle of this process, got one of the process that "
                     "forked it; open the bundle here, and leave that handle alone", name);
  if (!atomic_exchange(&function->busy, 1)) {
    atomic_store(&function->context.cancelled, 0);
    function->mode = flow_float_enter();
    return TVM_FLOW_OK;
  }
  return flow_fail(error, TVM_FLOW_BUSY,
                   "%s: expected a handle that runs nothing, got one in use by another thread or by this function's "
                   "caller; wait for it, or open another", name);
}

void flow_function_leave(flow_function *function) {
  const flow_float_mode mode = function->mode;
  atomic_store(&function->busy, 0);
  flow_float_set(mode);
}

tvm_flow_status flow_function_set_trace(flow_function *function, tvm_flow_trace trace, void *user) {
  tvm_flow_status s = flow_function_take(function, "set_trace", NULL);
  if (s) return s;
  function->trace = trace;
  function->trace_user = user;
  flow_function_leave(function);
  return TVM_FLOW_OK;
}

tvm_flow_status flow_function_run(flow_function *function, uint32_t group, flow_part part, uint32_t step,
                                  uint32_t branch, tvm_flow_error *error) {
  const flow_plan_run run = {.context = &function->context,
                             .trace = function->trace,
                             .trace_user = function->trace_user,
                             .step = step,
                             .branch = branch};
  return flow_plan_execute(&function->plans[group], part, &run, error);
}
