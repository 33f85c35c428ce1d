/* The tables of a library. What is accepted is run, with kernels that read and write every byte of their arguments: a
 * table that reaches where it must not is a report of the address sanitizer.
 *
 * An input is a table of counts and sizes, then the tables as they lie in memory, but for names and functions. */
#include "../runtime/c/toy_group.c"

#include "../../tvm_flow/runtime/src/tvm_abi.h"
#include "given.h"
#include "plan.h"

enum { MOST_ROWS = 64, MOST_SPACE = 1 << 16, WEIGHT_BYTES = 512, STEP_FLOATS = 34, VARIANT_FLOATS = 7 };

typedef struct {
  uint8_t tensors, kernels, prologue, calls, args, folds, inputs, devices, segments, copies, missing, reserved;
  uint32_t arena, step, prompt, weights, step_floats, variant_floats, output;
} counts;

typedef struct {
  const uint8_t *at;
  size_t left;
  void *taken[8];
  int count;
} reader;

/* A copy of exactly so many rows, zeros past the end of the input; NULL for none. */
static void *rows(reader *r, size_t count, size_t bytes) {
  const size_t whole = count * bytes, there = whole < r->left ? whole : r->left;
  if (!whole) return NULL;
  char *table = calloc(1, whole);
  memcpy(table, r->at, there);
  r->at += there, r->left -= there;
  return r->taken[r->count++] = table;
}

static int touch(void *self, const void *packed, int32_t num_args, void *result) {
  const flow_any *values = packed;
  uint8_t sum = 0;
  (void)self, (void)result;
  for (int32_t i = 0; i < num_args; i++) {
    const flow_dltensor *tensor = values[i].v_ptr;
    uint64_t bytes = tensor->dtype.bits / 8u;
    for (int32_t k = 0; k < tensor->ndim; k++) bytes *= (uint64_t)tensor->shape[k];
    uint8_t *data_of = tensor->data;
    for (uint64_t k = 0; k < bytes; k++) sum = (uint8_t)(sum + data_of[k]);
    if (i == num_args - 1) memset(data_of, sum, bytes);
  }
  return 0;
}

static void execute(flow_plan *plan, flow_context *context) {
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  float *step = calloc(STEP_FLOATS, sizeof *step), *variant = calloc(VARIANT_FLOATS, sizeof *variant);
  const flow_plan_run run = {.context = context};
  const uint64_t floats[] = {VALUES, CHANNELS * TOKENS, TOKENS};
  for (uint32_t branch = 0; branch < 2; branch++) {
    flow_fold(d, plan->weights, step, variant, plan->step_block);
    if (flow_plan_step(plan, branch, NULL)) abort();
    for (int part = FLOW_PROLOGUE; part <= FLOW_STEP; part++) {
      for (uint32_t i = 0; i < d->num_inputs; i++)
        if (plan->reads[part][i]) memset(flow_plan_input(plan, i), 1, floats[i] * sizeof(float));
      if (flow_plan_execute(plan, (flow_part)part, &run, NULL)) abort();
    }
    volatile float last = flow_plan_output(plan)[VALUES - 1];
    (void)last;
  }
  free(step), free(variant);
}

static void use(const tvm_flow_library_descriptor *d) {
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {1, 1, NULL, 0, &host};
  const tvm_flow_options none = {.struct_bytes = sizeof none};
  const flow_library loaded = {.descriptor = d};
  uint8_t *weights = aligned_alloc(64, WEIGHT_BYTES);
  flow_context context;
  flow_plan plan;
  flow_devices devices = {.host = &context.host};
  memset(weights, 1, WEIGHT_BYTES);
  flow_context_open(&context, &host);
  const tvm_flow_device_open_info info = {
      .struct_bytes = sizeof info, .branches = 2, .services = &context.services, .weights = weights};
  tvm_flow_status s = flow_devices_add(&devices, "x.so", d, &none, NULL);
  if (!s) s = flow_devices_open(&devices, &info, NULL);
  if (!s) s = flow_pool_create(&options, &context.pool, NULL);
  if (!s && !flow_plan_bind(&loaded, &devices, weights, &plan, NULL)) {
    execute(&plan, &context);
    flow_plan_free(&plan);
  }
  flow_context_close(&context);
  flow_devices_close(&devices);
  free(weights);
}

int target_attempt(const uint8_t *input, size_t bytes) {
  static const tvm_flow_kernel touches[] = {touch, touch, touch, touch};
  static const char *const kernels_names[] = {"a", "b", "c", "d"};
  counts c = {0};
  tvm_flow_error error;
  memcpy(&c, input, bytes < sizeof c ? bytes : sizeof c);
  reader r = {.at = input + (bytes < sizeof c ? bytes : sizeof c), .left = bytes < sizeof c ? 0 : bytes - sizeof c};
  tvm_flow_library_descriptor d = {.abi = TVM_FLOW_ABI, .struct_bytes = sizeof d, .target = "", .cpu_features = ""};
  d.arena_bytes = c.arena % MOST_SPACE, d.step_bytes = c.step % MOST_SPACE, d.prompt_bytes = c.prompt % MOST_SPACE;
  d.weights_bytes = c.weights, d.step_floats = c.step_floats, d.variant_floats = c.variant_floats;
  d.num_tensors = c.tensors % MOST_ROWS, d.num_kernels = c.kernels % 5, d.num_prologue_calls = c.prologue;
  d.num_calls = c.calls % MOST_ROWS, d.num_args = c.args, d.num_folds = c.folds % MOST_ROWS;
  d.num_inputs = c.inputs % 5;
  d.num_segments = c.segments % MOST_ROWS, d.num_copies = c.copies % MOST_ROWS;
  static const tvm_flow_device_row cpu[] = {{"cpu", 0, 0}};
  tvm_flow_device_row device = cpu[0];
  device.arena_bytes = d.arena_bytes, device.prompt_bytes = d.prompt_bytes;
  d.num_devices = c.devices % 2, d.devices = c.devices & 2 ? NULL : &device;
  d.tensors = rows(&r, d.num_tensors, sizeof *d.tensors), d.calls = rows(&r, d.num_calls, sizeof *d.calls);
  d.args = rows(&r, d.num_args, sizeof *d.args), d.folds = rows(&r, d.num_folds, sizeof *d.folds);
  d.inputs = rows(&r, d.num_inputs, sizeof *d.inputs), d.copies = rows(&r, d.num_copies, sizeof *d.copies);
  tvm_flow_segment *segments = rows(&r, d.num_segments, sizeof *segments);
  for (uint32_t i = 0; i < d.num_segments; i++) segments[i].payload = NULL;
  d.segments = segments, d.output = c.output, d.enter = c.missing & 1 ? NULL : enter;
  d.kernels = c.missing & 2 ? NULL : touches, d.kernel_names = c.missing & 4 ? NULL : kernels_names;

  const flow_host host = flow_host_of(NULL);
  const flow_index_group group = {.variant_floats = VARIANT_FLOATS};
  const flow_signature signature = {.kind = &flow_step_graph, .host = &host, .groups = &group, .num_groups = 1,
                                    .branches = 2, .step_floats = STEP_FLOATS,
                                    .input_floats = {VALUES, CHANNELS * TOKENS, TOKENS}, .output_floats = VALUES,
                                    .weights_bytes = WEIGHT_BYTES};
  const tvm_flow_status s = flow_check_descriptor("x.so", &d, &signature, 0, &error);
  if (!s) use(&d);
  while (r.count > 0) free(r.taken[--r.count]);
  return (int)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) { return target_attempt(input, bytes), 0; }

/* The toy group. */
size_t target_seed(uint8_t *out, size_t most) {
  const tvm_flow_library_descriptor *d = &tvm_flow_library;
  const counts c = {.tensors = (uint8_t)d->num_tensors, .kernels = (uint8_t)d->num_kernels,
                    .prologue = (uint8_t)d->num_prologue_calls, .calls = (uint8_t)d->num_calls,
                    .args = (uint8_t)d->num_args, .folds = (uint8_t)d->num_folds, .inputs = (uint8_t)d->num_inputs,
                    .arena = (uint32_t)d->arena_bytes, .step = (uint32_t)d->step_bytes,
                    .prompt = (uint32_t)d->prompt_bytes, .weights = (uint32_t)d->weights_bytes,
                    .step_floats = d->step_floats, .variant_floats = d->variant_floats, .output = d->output};
  const struct {
    const void *rows;
    size_t bytes;
  } parts[] = {{&c, sizeof c},
               {d->tensors, d->num_tensors * sizeof *d->tensors},
               {d->calls, d->num_calls * sizeof *d->calls},
               {d->args, d->num_args * sizeof *d->args},
               {d->folds, d->num_folds * sizeof *d->folds},
               {d->inputs, d->num_inputs * sizeof *d->inputs}};
  size_t at = 0;
  for (size_t i = 0; i < sizeof parts / sizeof *parts && at + parts[i].bytes <= most; i++) {
    memcpy(out + at, parts[i].rows, parts[i].bytes);
    at += parts[i].bytes;
  }
  if (target_attempt(out, at)) abort(); /* it must run, or nothing of a plan would be tried */
  return at;
}
