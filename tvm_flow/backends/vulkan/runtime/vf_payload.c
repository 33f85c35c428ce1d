#include "vf_payload.h"

static tvm_flow_status bad(tvm_flow_error *error, const char *table, uint64_t row, const char *expected) {
  return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "payload, %s %llu: expected %s; compile the bundle again", table,
                 (unsigned long long)row, expected);
}

static int reaches(uint32_t first, uint32_t count, uint32_t rows) { return first <= rows && count <= rows - first; }

/* Where each table begins; the sum of all is what the header says. */
static tvm_flow_status lay_out(const void *data, uint64_t bytes, vf_payload *p, tvm_flow_error *error) {
  const vf_header *h = data;
  if (bytes < sizeof *h || (uintptr_t)data % 4 || h->magic != VF_PAYLOAD_MAGIC)
    return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "expected a payload for Vulkan, got other bytes; compile the bundle "
                   "again");
  if (h->version != VF_PAYLOAD_VERSION)
    return vf_fail(error, TVM_FLOW_WRONG_ABI, "expected a payload of version %u, got %u; compile the bundle and this "
                   "device from one version", VF_PAYLOAD_VERSION, h->version);
  const uint64_t sizes[] = {sizeof *h,
                            h->num_modules * (uint64_t)sizeof *p->modules,
                            h->num_pipelines * (uint64_t)sizeof *p->pipelines,
                            h->num_constants * (uint64_t)sizeof *p->constants,
                            h->num_kernels * (uint64_t)sizeof *p->kernels,
                            h->num_dispatches * (uint64_t)sizeof *p->dispatches,
                            h->num_args * (uint64_t)sizeof *p->args,
                            h->num_calls * (uint64_t)4,
                            h->code_words * (uint64_t)4};
  uint64_t at[10] = {0};
  for (int i = 0; i < 9; i++) at[i + 1] = at[i] + sizes[i];
  if (h->bytes != bytes || at[9] != bytes) return bad(error, "bytes", bytes, "as many as its tables need");
  const uint8_t *base = data;
  *p = (vf_payload){.header = h,
                    .modules = (const void *)(base + at[1]),
                    .pipelines = (const void *)(base + at[2]),
                    .constants = (const void *)(base + at[3]),
                    .kernels = (const void *)(base + at[4]),
                    .dispatches = (const void *)(base + at[5]),
                    .args = (const void *)(base + at[6]),
                    .calls = (const void *)(base + at[7]),
                    .code = (const void *)(base + at[8])};
  return TVM_FLOW_OK;
}

static tvm_flow_status check_pipeline(const vf_payload *p, uint32_t row, tvm_flow_error *error) {
  const vf_pipeline *pipeline = &p->pipelines[row];
  const uint32_t fallback = pipeline->fallback;
  if (pipeline->module >= p->header->num_modules) return bad(error, "pipeline", row, "a known module");
  if (!pipeline->local[0] || !pipeline->local[1] || !pipeline->local[2])
    return bad(error, "pipeline", row, "invocations in its workgroup");
  if (!reaches(pipeline->first_constant, pipeline->num_constants, p->header->num_constants) ||
      pipeline->num_constants > VF_MOST_ARGS)
    return bad(error, "pipeline", row, "known constants, at most 32");
  if (pipeline->num_args > VF_MOST_ARGS) return bad(error, "pipeline", row, "at most 32 args");
  if (fallback != VF_NONE &&
      (fallback >= p->header->num_pipelines || p->pipelines[fallback].fallback != VF_NONE ||
       p->pipelines[fallback].bindings != pipeline->bindings || p->pipelines[fallback].num_args != pipeline->num_args))
    return bad(error, "pipeline", row, "a fallback of equal bindings, and without its own");
  return TVM_FLOW_OK;
}

static tvm_flow_status check_dispatch(const vf_payload *p, uint32_t row, tvm_flow_error *error) {
  const vf_dispatch *d = &p->dispatches[row];
  if (d->pipeline >= p->header->num_pipelines) return bad(error, "dispatch", row, "a known pipeline");
  if (!d->grid[0] || !d->grid[1] || !d->grid[2]) return bad(error, "dispatch", row, "workgroups");
  if (!reaches(d->first_arg, d->num_args, p->header->num_args) || d->num_args != p->pipelines[d->pipeline].num_args)
    return bad(error, "dispatch", row, "the args of its pipeline");
  uint32_t bound = 0;
  for (const vf_arg *a = p->args + d->first_arg; a < p->args + d->first_arg + d->num_args; a++) {
    if (a->binding >= VF_MOST_ARGS) return bad(error, "dispatch", row, "bindings of its pipeline");
    if (!a->access || a->access > (VF_READ | VF_WRITE)) return bad(error, "dispatch", row, "args that it touches");
    if (a->position == VF_NONE &&
        (a->offset % 64 || !a->bytes || !reaches(a->offset, a->bytes, p->header->scratch_bytes)))
      return bad(error, "dispatch", row, "an arg within the scratch memory");
    bound |= 1u << a->binding;
  }
  if (bound != p->pipelines[d->pipeline].bindings)
    return bad(error, "dispatch", row, "an arg at each binding of its pipeline, and at no other");
  return TVM_FLOW_OK;
}

static tvm_flow_status check_tables(const vf_payload *p, tvm_flow_error *error) {
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; i < p->header->num_modules; i++)
    if (!reaches(p->modules[i].first_word, p->modules[i].words, p->header->code_words))
      return bad(error, "module", i, "words of the code");
  for (uint32_t i = 0; !s && i < p->header->num_pipelines; i++) s = check_pipeline(p, i, error);
  for (uint32_t i = 0; !s && i < p->header->num_dispatches; i++) s = check_dispatch(p, i, error);
  for (uint32_t i = 0; !s && i < p->header->num_kernels; i++)
    if (!p->kernels[i].num_dispatches ||
        !reaches(p->kernels[i].first_dispatch, p->kernels[i].num_dispatches, p->header->num_dispatches))
      s = bad(error, "kernel", i, "known dispatches");
  return s;
}

/* Inputs are read, the last argument is written by it. */
static tvm_flow_status check_call(const vf_payload *p, const tvm_flow_library_descriptor *library, uint32_t row,
                                  tvm_flow_error *error) {
  const tvm_flow_call *call = &library->calls[row];
  if (p->calls[row] >= p->header->num_kernels) return bad(error, "call", row, "a known kernel");
  const vf_kernel *kernel = &p->kernels[p->calls[row]];
  for (uint32_t i = 0; i < kernel->num_dispatches; i++) {
    const vf_dispatch *d = &p->dispatches[kernel->first_dispatch + i];
    for (const vf_arg *a = p->args + d->first_arg; a < p->args + d->first_arg + d->num_args; a++) {
      if (a->position == VF_NONE) continue;
      if (a->position >= call->num_args) return bad(error, "call", row, "as many arguments as its kernel names");
      if (a->access & VF_WRITE && a->position != call->num_args - 1)
        return bad(error, "call", row, "a kernel that writes the last argument alone");
    }
  }
  return TVM_FLOW_OK;
}

tvm_flow_status vf_payload_read(const tvm_flow_library_descriptor *library, uint32_t row, vf_payload *out,
                                tvm_flow_error *error) {
  const tvm_flow_segment *first = NULL;
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; !s && i < library->num_segments; i++) {
    const tvm_flow_segment *segment = &library->segments[i];
    if (segment->device != row || !segment->num_calls) continue;
    if (!first) {
      s = lay_out(segment->payload, segment->payload_bytes, out, error);
      if (!s && out->header->num_calls != library->num_calls)
        s = bad(error, "calls", out->header->num_calls, "one for each call of the library");
      if (!s) s = check_tables(out, error);
      first = segment;
    }
    if (!s && segment->payload != first->payload) s = bad(error, "segment", i, "the payload of the segment before");
    for (uint32_t c = 0; !s && c < segment->num_calls; c++)
      s = check_call(out, library, segment->first_call + c, error);
  }
  return s;
}
