/* The tables of a library that say what runs where. */
#include <string.h>

#include "library.h"

enum { GIVEN = 1, MADE = 2 }; /* an input; what a call or a copy wrote */

typedef struct {
  const char *path;
  const tvm_flow_library_descriptor *d;
  uint8_t *written; /* [num_tensors]: GIVEN or MADE in the part at hand, or MADE by the prologue in PROMPT */
  tvm_flow_error *error;
} checked;

static tvm_flow_status bad(const checked *c, const char *table, uint64_t row, const char *expected) {
  return flow_bad_table(c->path, table, row, expected, c->error);
}

/* An empty one on the border makes the last copies of the prologue. */
flow_part flow_part_of(const tvm_flow_library_descriptor *d, const tvm_flow_segment *s) {
  uint32_t border = d->num_prologue_calls;
  return s->first_call < border || (s->num_calls == 0 && s->first_call == border) ? FLOW_PROLOGUE : FLOW_STEP;
}

tvm_flow_status flow_check_devices(const char *path, const tvm_flow_library_descriptor *d, tvm_flow_error *error) {
  const checked c = {.path = path, .d = d, .error = error};
  tvm_flow_status s;
  if ((s = flow_check_table(path, "devices", d->num_devices, d->devices, error))) return s;
  if ((s = flow_check_table(path, "segments", d->num_segments, d->segments, error))) return s;
  if ((s = flow_check_table(path, "copies", d->num_copies, d->copies, error))) return s;
  if (d->num_devices > TVM_FLOW_MAX_DEVICES) return bad(&c, "devices", d->num_devices, "at most 8");
  for (uint32_t i = 0; i < d->num_devices; i++) {
    const tvm_flow_device_row *row = &d->devices[i];
    if (!row->name || (i == 0) != (strcmp(row->name, "cpu") == 0))
      return bad(&c, "device", i, "cpu first, then others");
    for (uint32_t j = 0; j < i; j++)
      if (strcmp(d->devices[j].name, row->name) == 0) return bad(&c, "device", i, "a name of its own");
    if (i == 0 && (row->arena_bytes != d->arena_bytes || row->prompt_bytes != d->prompt_bytes))
      return bad(&c, "device", i, "the sizes of the descriptor");
  }
  return TVM_FLOW_OK;
}

static int same_values(const tvm_flow_tensor *a, const tvm_flow_tensor *b) {
  int same = a->dtype_code == b->dtype_code && a->dtype_bits == b->dtype_bits && a->ndim == b->ndim;
  for (int i = 0; same && i < a->ndim; i++) same = a->shape[i] == b->shape[i];
  return same;
}

static tvm_flow_status check_copy(const checked *c, uint32_t row, const tvm_flow_segment *segment) {
  const tvm_flow_copy *copy = &c->d->copies[row];
  if (copy->from >= c->d->num_tensors || copy->to >= c->d->num_tensors)
    return bad(c, "copy", row, "tensors of this library");
  const tvm_flow_tensor *from = &c->d->tensors[copy->from], *to = &c->d->tensors[copy->to];
  int prologue = flow_part_of(c->d, segment) == FLOW_PROLOGUE;
  if (from->device == to->device) return bad(c, "copy", row, "two devices");
  if (to->device != segment->device) return bad(c, "copy", row, "a target on its segment's device");
  if (!same_values(from, to)) return bad(c, "copy", row, "tensors of one type and shape");
  if (to->space != TVM_FLOW_ARENA && (to->space != TVM_FLOW_PROMPT || !prologue))
    return bad(c, "copy", row, "a target in the arena, or in the prologue the prompt's space");
  if (!c->written[copy->from]) return bad(c, "copy", row, "a source that was written before");
  c->written[copy->to] = MADE;
  return TVM_FLOW_OK;
}

static tvm_flow_status check_segment_call(const checked *c, uint32_t row, uint32_t device) {
  const tvm_flow_call *call = &c->d->calls[row];
  const uint32_t *args = &c->d->args[call->first_arg];
  for (uint32_t i = 0; i < call->num_args; i++)
    if (c->d->tensors[args[i]].device != device) return bad(c, "call", row, "tensors of its segment's device");
  if (device == 0 && !c->d->kernels[call->kernel]) return bad(c, "call", row, "a function of its kernel");
  c->written[args[call->num_args - 1]] = MADE;
  return TVM_FLOW_OK;
}

/* Nothing of ARENA is kept from the prologue, and inputs are written anew. */
static void begin_part(const checked *c) {
  for (uint32_t i = 0; i < c->d->num_tensors; i++)
    if (c->d->tensors[i].space != TVM_FLOW_PROMPT) c->written[i] = 0;
  for (uint32_t i = 0; i < c->d->num_inputs; i++) c->written[c->d->inputs[i]] = GIVEN;
}

static int reaches(uint32_t first, uint32_t count, uint32_t rows) { return first <= rows && count <= rows - first; }

static tvm_flow_status check_segment(const checked *c, uint32_t row, uint32_t expected_call, uint32_t expected_copy) {
  const tvm_flow_library_descriptor *d = c->d;
  const tvm_flow_segment *segment = &d->segments[row];
  if (segment->device >= (d->num_devices ? d->num_devices : 1)) return bad(c, "segment", row, "a known device");
  if (segment->first_call != expected_call || !reaches(segment->first_call, segment->num_calls, d->num_calls))
    return bad(c, "segment", row, "the calls after the segment before");
  uint32_t end = segment->first_call + segment->num_calls;
  if (segment->first_call < d->num_prologue_calls && end > d->num_prologue_calls)
    return bad(c, "segment", row, "calls of the prologue or of the step");
  if (segment->num_copies &&
      (segment->first_copy != expected_copy || !reaches(expected_copy, segment->num_copies, d->num_copies)))
    return bad(c, "segment", row, "the copies after those of the segment before");
  if (segment->payload_bytes && !segment->payload) return bad(c, "segment", row, "a payload behind its size");
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; !s && i < segment->num_copies; i++) s = check_copy(c, segment->first_copy + i, segment);
  for (uint32_t i = segment->first_call; !s && i < end; i++) s = check_segment_call(c, i, segment->device);
  return s;
}

static tvm_flow_status check_all(const checked *c) {
  const tvm_flow_library_descriptor *d = c->d;
  uint32_t call = 0, copy = 0;
  tvm_flow_status s = TVM_FLOW_OK;
  begin_part(c);
  if (!d->num_segments) /* one segment over all calls */
    for (; !s && call < d->num_calls; call++) {
      if (call == d->num_prologue_calls) begin_part(c);
      s = check_segment_call(c, call, 0);
    }
  for (uint32_t row = 0; !s && row < d->num_segments; row++) {
    const tvm_flow_segment *segment = &d->segments[row];
    if (row && flow_part_of(d, segment) != flow_part_of(d, segment - 1)) begin_part(c);
    s = check_segment(c, row, call, copy);
    call += segment->num_calls;
    copy += segment->num_copies;
  }
  if (!s && copy != d->num_copies) s = bad(c, "copies", d->num_copies, "a segment for every copy");
  if (!s && call != d->num_calls) s = bad(c, "segments", d->num_segments, "a segment for every call");
  int made = d->num_calls > d->num_prologue_calls && c->written[d->output] == MADE;
  return s || made ? s : bad(c, "output", d->output, "a call of the step that writes it");
}

tvm_flow_status flow_check_segments(const char *path, const tvm_flow_library_descriptor *d, const flow_host *host,
                                    tvm_flow_error *error) {
  const checked c = {.path = path, .d = d, .written = flow_alloc(host, d->num_tensors), .error = error};
  if (!c.written) return flow_no_memory(error, "the checks of a library");
  tvm_flow_status s = check_all(&c);
  flow_free(host, c.written);
  return s;
}
