#include "library.h"

enum { ALIGN = 64, MAX_TABLE = 1 << 20 };

const flow_kind flow_step_graph = {.weights_file = "weights.bin",
                                   .takes = "three: z, y and mask",
                                   .inputs = {"input z", "input y", "input mask"},
                                   .num_inputs = 3,
                                   .branches = 2};

const flow_kind flow_decoder_graph = {.weights_file = "decoder_weights.bin",
                                      .takes = "one: latents",
                                      .inputs = {"input latents"},
                                      .num_inputs = 1,
                                      .branches = 0};

typedef struct {
  const char *path;
  const tvm_flow_library_descriptor *d;
  const flow_signature *signature;
  tvm_flow_error *error;
} checked;

tvm_flow_status flow_bad_table(const char *path, const char *table, uint64_t row, const char *expected,
                               tvm_flow_error *error) {
  return flow_fail(error, TVM_FLOW_BAD_LIBRARY, "%s: %s %llu: expected %s; compile the bundle again", path, table,
                   (unsigned long long)row, expected);
}

tvm_flow_status flow_check_table(const char *path, const char *table, uint32_t rows, const void *pointer,
                                 tvm_flow_error *error) {
  if (rows > MAX_TABLE) return flow_bad_table(path, table, rows, "at most 1048576 rows", error);
  if (rows && !pointer) return flow_bad_table(path, table, rows, "a table behind its count", error);
  return TVM_FLOW_OK;
}

static tvm_flow_status bad(const checked *c, const char *table, uint64_t row, const char *expected) {
  return flow_bad_table(c->path, table, row, expected, c->error);
}

static tvm_flow_status check_table(const checked *c, const char *table, uint32_t rows, const void *pointer) {
  return flow_check_table(c->path, table, rows, pointer, c->error);
}

static tvm_flow_status check_tables(const checked *c) {
  const tvm_flow_library_descriptor *d = c->d;
  tvm_flow_status s;
  if ((s = check_table(c, "tensors", d->num_tensors, d->tensors))) return s;
  if ((s = check_table(c, "kernels", d->num_kernels, (const void *)d->kernels))) return s;
  if ((s = check_table(c, "kernel names", d->num_kernels, (const void *)d->kernel_names))) return s;
  if ((s = check_table(c, "calls", d->num_calls, d->calls))) return s;
  if ((s = check_table(c, "args", d->num_args, d->args))) return s;
  if ((s = check_table(c, "folds", d->num_folds, d->folds))) return s;
  if ((s = check_table(c, "inputs", d->num_inputs, d->inputs))) return s;
  if (d->num_prologue_calls > d->num_calls)
    return bad(c, "prologue calls", d->num_prologue_calls, "at most as many as there are calls");
  if (!d->enter) return bad(c, "enter", 0, "a function that takes the services");
  for (uint32_t i = 0; i < d->num_kernels; i++)
    if (!d->kernel_names[i]) return bad(c, "kernel", i, "a name");
  return TVM_FLOW_OK;
}

static tvm_flow_status too_few(const checked *c, const char *what, uint64_t needs, uint64_t has) {
  return flow_fail(c->error, FLOW_FOR(CORRUPT, WRONG_STEP_TABLE),
                   "%s: needs %llu %s, but the bundle has %llu; pack the bundle again", c->path,
                   (unsigned long long)needs, what, (unsigned long long)has);
}

static tvm_flow_status check_sizes(const checked *c, uint32_t group) {
  const tvm_flow_library_descriptor *d = c->d;
  const flow_signature *h = c->signature;
  uint32_t variant_floats = h->groups[group].variant_floats;
  const uint64_t weights_bytes = h->weights_bytes - h->weights_first;
  if (d->weights_bytes > weights_bytes) return too_few(c, "bytes of weights", d->weights_bytes, weights_bytes);
  if (d->step_floats > h->step_floats) return too_few(c, "floats a step", d->step_floats, h->step_floats);
  if (d->variant_floats > variant_floats) return too_few(c, "floats a variant", d->variant_floats, variant_floats);
  return TVM_FLOW_OK;
}

uint64_t flow_tensor_bytes(const tvm_flow_tensor *tensor) {
  uint64_t bytes = tensor->dtype_bits / 8u;
  if (tensor->dtype_bits % 8 || tensor->dtype_code > 2 || tensor->ndim > TVM_FLOW_MAX_DIMS) return 0;
  for (int i = 0; i < tensor->ndim; i++) {
    if (tensor->shape[i] < 1) return 0;
    if (__builtin_mul_overflow(bytes, (uint64_t)tensor->shape[i], &bytes)) return 0;
  }
  return bytes;
}

static int fits(uint64_t offset, uint64_t bytes, uint64_t space) { return offset <= space && bytes <= space - offset; }

static tvm_flow_status check_tensor(const checked *c, uint32_t row) {
  const tvm_flow_tensor *tensor = &c->d->tensors[row];
  if (tensor->space > TVM_FLOW_PROMPT) return bad(c, "tensor", row, "a known memory space");
  if (tensor->device >= (c->d->num_devices ? c->d->num_devices : 1)) return bad(c, "tensor", row, "a known device");
  const tvm_flow_device_row *device = tensor->device ? &c->d->devices[tensor->device] : NULL;
  const uint64_t space[] = {device ? device->arena_bytes : c->d->arena_bytes, c->d->weights_bytes, c->d->step_bytes,
                            device ? device->prompt_bytes : c->d->prompt_bytes};
  uint64_t bytes = flow_tensor_bytes(tensor);
  if (bytes == 0) return bad(c, "tensor", row, "at most 8 positive sizes of an int, uint or float type of whole bytes");
  if (tensor->offset % ALIGN) return bad(c, "tensor", row, "an offset that 64 divides");
  if (!fits(tensor->offset, bytes, space[tensor->space])) return bad(c, "tensor", row, "an extent inside its space");
  return TVM_FLOW_OK;
}

static tvm_flow_status check_call(const checked *c, uint32_t row) {
  const tvm_flow_call *call = &c->d->calls[row];
  if (call->kernel >= c->d->num_kernels) return bad(c, "call", row, "a kernel of this library");
  if (call->num_args < 1 || call->num_args > INT32_MAX) return bad(c, "call", row, "at least one argument");
  if (!fits(call->first_arg, call->num_args, c->d->num_args)) return bad(c, "call", row, "arguments in their table");
  const uint32_t *args = &c->d->args[call->first_arg];
  int prologue = row < c->d->num_prologue_calls;
  uint8_t space = c->d->tensors[args[call->num_args - 1]].space;
  if (space != TVM_FLOW_ARENA && (space != TVM_FLOW_PROMPT || !prologue))
    return bad(c, "call", row, prologue ? "an output in the arena or the prompt's space" : "an output in the arena");
  for (uint32_t i = 0; prologue && i < call->num_args; i++)
    if (args[i] == c->d->inputs[0]) return bad(c, "call", row, "a prologue without the latent");
  return TVM_FLOW_OK;
}

static tvm_flow_status check_fold(const checked *c, uint32_t row) {
  const tvm_flow_library_descriptor *d = c->d;
  const tvm_flow_fold *fold = &d->folds[row];
  uint64_t bytes = 4 * (uint64_t)fold->count;
  int flips = fold->op == TVM_FLOW_FOLD_FLIP;
  int reads_b = fold->op != TVM_FLOW_FOLD_COPY && fold->op != TVM_FLOW_FOLD_LESS && !flips;
  int reads_c = fold->op == TVM_FLOW_FOLD_AFFINE && fold->c != TVM_FLOW_NONE;
  if (fold->op > TVM_FLOW_FOLD_FLIP) return bad(c, "fold", row, "a known operation");
  if (flips && fold->b > UINT32_MAX) return bad(c, "fold", row, "bits of one word");
  if (fold->out % 4 || (reads_b && fold->b % 4) || (reads_c && fold->c % 4))
    return bad(c, "fold", row, "offsets of whole floats");
  uint64_t floats = fold->op == TVM_FLOW_FOLD_AFFINE ? d->step_floats : d->variant_floats;
  int scalar = fold->op == TVM_FLOW_FOLD_SCALE || fold->op == TVM_FLOW_FOLD_INTEGER;
  if (!fits(fold->a, scalar ? 1 : fold->count, floats))
    return bad(c, "fold", row, "a source inside its record");
  if (!fits(fold->out, bytes, d->step_bytes)) return bad(c, "fold", row, "a result inside the step block");
  if ((reads_b && !fits(fold->b, bytes, d->weights_bytes)) || (reads_c && !fits(fold->c, bytes, d->weights_bytes)))
    return bad(c, "fold", row, "factors inside the weights");
  return TVM_FLOW_OK;
}

/* Inputs and output are float32 in the CPU's arena, with as many values as the bundle says. */
static tvm_flow_status check_edge(const checked *c, const char *what, uint32_t tensor, uint64_t floats) {
  if (tensor >= c->d->num_tensors) return bad(c, what, tensor, "a tensor of this library");
  const tvm_flow_tensor *t = &c->d->tensors[tensor];
  if (t->space != TVM_FLOW_ARENA || t->dtype_code != 2 || t->dtype_bits != 32)
    return bad(c, what, tensor, "float32 in the arena");
  if (t->device != 0) return bad(c, what, tensor, "a tensor of the CPU");
  if (flow_tensor_bytes(t) != 4 * floats) return bad(c, what, tensor, "as many values as steps.bin says");
  return TVM_FLOW_OK;
}

static tvm_flow_status check_edges(const checked *c) {
  const flow_signature *signature = c->signature;
  const flow_kind *kind = signature->kind;
  if (c->d->num_inputs != kind->num_inputs) return bad(c, "inputs", c->d->num_inputs, kind->takes);
  if (!kind->branches && (c->d->num_prologue_calls || c->d->prompt_bytes))
    return bad(c, "prologue calls", c->d->num_prologue_calls, "no prologue of a decoder");
  for (uint32_t i = 0; i < kind->num_inputs; i++) {
    tvm_flow_status s = check_edge(c, kind->inputs[i], c->d->inputs[i], signature->input_floats[i]);
    if (s) return s;
  }
  return check_edge(c, "output", c->d->output, signature->output_floats);
}

tvm_flow_status flow_check_descriptor(const char *path, const tvm_flow_library_descriptor *descriptor,
                                      const flow_signature *signature, uint32_t group, tvm_flow_error *error) {
  const checked c = {.path = path, .d = descriptor, .signature = signature, .error = error};
  tvm_flow_status s = check_tables(&c);
  if (!s) s = check_sizes(&c, group);
  if (!s) s = flow_check_devices(path, descriptor, error);
  for (uint32_t i = 0; !s && i < descriptor->num_tensors; i++) s = check_tensor(&c, i);
  for (uint32_t i = 0; !s && i < descriptor->num_args; i++)
    if (descriptor->args[i] >= descriptor->num_tensors) s = bad(&c, "arg", i, "a tensor of this library");
  if (!s) s = check_edges(&c);
  for (uint32_t i = 0; !s && i < descriptor->num_calls; i++) s = check_call(&c, i);
  for (uint32_t i = 0; !s && i < descriptor->num_folds; i++) s = check_fold(&c, i);
  return s ? s : flow_check_segments(path, descriptor, signature->host, error);
}
