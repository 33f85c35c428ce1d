#include "npu_bound.h"

#include "vf_cache.h"
#include "vf_weights.h"

/* What a call passes must be what its graph takes: the library was checked, but not its payload. */
static tvm_flow_status check_call(const npu_bound *bound, uint32_t call, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = bound->plan.library;
  const tvm_flow_call *c = &d->calls[call];
  const npu_graph *graph = npu_graph_of(bound, call);
  const char *name = d->kernel_names[c->kernel];
  if (graph->file.num_outputs != 1 || npu_arguments(graph) != c->num_args)
    return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "%.100s: expected a graph of %u inputs and one output, got %u and %u; "
                   "compile the bundle again", name, c->num_args - 1, graph->file.num_inputs, graph->file.num_outputs);
  for (uint32_t i = 0; i < c->num_args; i++) {
    const tvm_flow_tensor *t = &d->tensors[d->args[c->first_arg + i]];
    if (vf_tensor_bytes(t) != graph->arguments[i].bytes || t->dtype_bits != 8 * graph->arguments[i].element)
      return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "%.100s: argument %u: expected %llu bytes, as the plan has it, got "
                     "%llu in the graph; compile the bundle again", name, i, (unsigned long long)vf_tensor_bytes(t),
                     (unsigned long long)graph->arguments[i].bytes);
  }
  return TVM_FLOW_OK;
}

/* Calls of one kernel share its graph. */
static tvm_flow_status make_graph(npu_bound *bound, uint32_t call, const npu_blob *blob, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = bound->plan.library;
  for (uint32_t other = 0; other < call && !bound->graph_of[call]; other++)
    if (bound->graph_of[other] && d->calls[other].kernel == d->calls[call].kernel)
      bound->graph_of[call] = bound->graph_of[other];
  if (!bound->graph_of[call]) {
    bound->graph_of[call] = ++bound->num_graphs;
    const char *name = d->kernel_names[d->calls[call].kernel];
    tvm_flow_status s =
        npu_graph_make(bound->device, blob->vgf, blob->vgf_bytes, name, npu_graph_of(bound, call), error);
    if (s) return s;
  }
  return check_call(bound, call, error);
}

static tvm_flow_status make_graphs(npu_bound *bound, tvm_flow_error *error) {
  const tvm_flow_library_descriptor *d = bound->plan.library;
  tvm_flow_status s = TVM_FLOW_OK;
  bound->graph_of = vf_take(bound->plan.device, d->num_calls * sizeof *bound->graph_of, "graphs", error);
  bound->graphs = vf_take(bound->plan.device, d->num_calls * sizeof *bound->graphs, "graphs", error);
  if (!bound->graph_of || !bound->graphs) return TVM_FLOW_NO_MEMORY;
  for (uint32_t i = 0; !s && i < d->num_segments; i++) {
    const tvm_flow_segment *segment = &d->segments[i];
    if (!vf_is_ours(&bound->plan, segment)) continue;
    const npu_blob *blobs = segment->payload;
    if (!blobs || segment->payload_bytes != segment->num_calls * sizeof *blobs)
      return vf_fail(error, TVM_FLOW_BAD_LIBRARY, "segment %u: expected a payload of %u graphs, got another; compile "
                     "the bundle again", i, segment->num_calls);
    for (uint32_t c = 0; !s && c < segment->num_calls; c++)
      s = make_graph(bound, segment->first_call + c, &blobs[c], error);
  }
  return s;
}

/* Graphs share what their sessions need, as activations of plans share theirs. */
static tvm_flow_status make_session(npu_bound *bound, tvm_flow_error *error) {
  const vf_functions *f = vf_of(bound->plan.device);
  uint64_t bytes = 0;
  uint32_t types = UINT32_MAX;
  tvm_flow_status s = TVM_FLOW_OK;
  for (uint32_t i = 0; !s && i < bound->num_graphs; i++)
    s = npu_graph_memory(bound->device, &bound->graphs[i], 0, &bytes, &types, error);
  if (s || !bytes) return s;
  uint32_t type = vf_memory_type(bound->plan.device, types, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
  if (type == UINT32_MAX) type = vf_memory_type(bound->plan.device, types, 0);
  if (type == UINT32_MAX) return vf_answer(error, VK_ERROR_OUT_OF_DEVICE_MEMORY, "graphs");
  const VkMemoryAllocateInfo info = {
      .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .allocationSize = bytes, .memoryTypeIndex = type};
  VkResult result;
  VF_MADE(result, f->vkAllocateMemory(bound->plan.device->device, &info, NULL, &bound->session), bound->session);
  s = vf_answer(error, result, "graphs");
  for (uint32_t i = 0; !s && i < bound->num_graphs; i++)
    s = npu_graph_memory(bound->device, &bound->graphs[i], bound->session, &bytes, &types, error);
  return s;
}

static tvm_flow_status bind_all(npu_bound *bound, tvm_flow_error *error) {
  tvm_flow_status s = make_graphs(bound, error);
  if (s || !bound->num_graphs) return s;
  s = make_session(bound, error);
  if (!s) s = vf_plan_open(&bound->plan, error);
  if (!s) s = npu_calls_make(bound, error);
  if (!s) s = vf_record_all(&bound->plan, error);
  if (!s) vf_cache_save(bound->plan.device);
  if (!s) vf_log(bound->plan.device, TVM_FLOW_LOG_INFO, "%u graphs", bound->num_graphs);
  return s;
}

tvm_flow_status npu_bind(void *opened, const tvm_flow_device_plan *plan, void **out, tvm_flow_error *error) {
  npu_device *device = opened;
  npu_bound *bound = vf_take(&device->base, sizeof *bound, "a plan", error);
  if (!bound) return TVM_FLOW_NO_MEMORY;
  bound->device = device;
  bound->plan =
      (vf_plan){.device = &device->base, .library = plan->library, .row = plan->row, .record = npu_record};
  tvm_flow_status s = bind_all(bound, error);
  if (s) npu_unbind(bound);
  else *out = bound;
  return s;
}

void npu_unbind(void *plan) {
  npu_bound *bound = plan;
  vf_device *device = bound->plan.device;
  vf_plan_close(&bound->plan);
  npu_calls_free(bound);
  for (uint32_t i = 0; i < bound->num_graphs; i++) npu_graph_free(bound->device, &bound->graphs[i]);
  if (bound->session) vf_of(device)->vkFreeMemory(device->device, bound->session, NULL);
  vf_give(device, bound->graphs);
  vf_give(device, bound->graph_of);
  vf_give(device, bound);
}
