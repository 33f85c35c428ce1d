/* One step graph: its constants folded, its prologue run where the prompt's buffer does not hold it yet. */
#include <string.h>

#include "flow.h"

/* Before every run, because the plan reuses its inputs' memory. */
static void write_inputs(const tvm_flow *flow, const flow_plan *plan, flow_part part, const float *z,
                         const tvm_flow_prompt *prompt) {
  const float *const sources[FLOW_GRAPH_INPUTS] = {z, prompt->tokens, prompt->mask};
  const uint64_t floats[FLOW_GRAPH_INPUTS] = {flow->index.latent_floats, flow->index.text_floats,
                                              flow->index.header->text_tokens};
  const uint32_t *inputs = plan->library.descriptor->inputs;
  for (int i = 0; i < FLOW_GRAPH_INPUTS; i++)
    if (plan->reads[part][i]) memcpy(plan->tensors[inputs[i]].data, sources[i], floats[i] * sizeof(float));
}

/* The buffer of a branch holds what one group's prologue wrote, or nothing while one writes it. */
static tvm_flow_status prepare_prompt(tvm_flow *flow, uint32_t group, const flow_plan_run *run,
                                      const tvm_flow_prompt *prompt, tvm_flow_error *error) {
  flow_plan *plan = &flow->plans[group];
  uint32_t *holder = &flow->prompt_group[run->branch];
  flow_plan_use_prompt(plan, flow->prompt[run->branch]);
  if (*holder == group) return TVM_FLOW_OK;
  *holder = FLOW_NO_GROUP;
  write_inputs(flow, plan, FLOW_PROLOGUE, NULL, prompt);
  tvm_flow_status s = flow_plan_execute(plan, FLOW_PROLOGUE, run, error);
  if (!s) *holder = group;
  return s;
}

tvm_flow_status flow_step(tvm_flow *flow, uint32_t step, uint32_t branch, const float *z, const tvm_flow_prompt *prompt,
                          float *prediction, tvm_flow_error *error) {
  const flow_index *index = &flow->index;
  const flow_index_header *h = index->header;
  const flow_index_variant *variant = &index->variants[(uint64_t)step * h->branches + branch];
  const flow_plan *plan = &flow->plans[variant->group];
  const tvm_flow_library_descriptor *d = plan->library.descriptor;
  const float *record = index->records + (uint64_t)step * h->step_floats;
  flow_fold(d, flow->weights.data, record, index->values + variant->first, plan->step_block);

  const flow_plan_run run = {.context = &flow->context,
                             .trace = flow->trace,
                             .trace_user = flow->trace_user,
                             .step = step,
                             .branch = branch};
  tvm_flow_status s = prepare_prompt(flow, variant->group, &run, prompt, error);
  if (s) return s;
  write_inputs(flow, plan, FLOW_STEP, z, prompt);
  s = flow_plan_execute(plan, FLOW_STEP, &run, error);
  if (!s) memcpy(prediction, plan->tensors[d->output].data, index->output_floats * sizeof(float));
  return s;
}
