/* One step graph: its constants folded, its prologue run where the prompt's buffer does not hold it yet. */
#include <string.h>

#include "flow.h"

/* Before every run, because the plan reuses its inputs' memory. */
static void write_inputs(const tvm_flow *flow, const flow_plan *plan, flow_part part, const float *z,
                         const tvm_flow_prompt *prompt) {
  const float *const sources[] = {z, prompt->tokens, prompt->mask};
  const uint64_t floats[] = {flow->index.latent_floats, flow->index.text_floats, flow->index.header->text_tokens};
  for (uint32_t i = 0; i < plan->library.descriptor->num_inputs; i++)
    if (plan->reads[part][i]) memcpy(flow_plan_input(plan, i), sources[i], floats[i] * sizeof(float));
}

/* PROMPT of a branch holds what one group's prologue wrote, or nothing while one writes it. */
static tvm_flow_status prepare_prompt(tvm_flow *flow, uint32_t group, uint32_t step, uint32_t branch,
                                      const tvm_flow_prompt *prompt, tvm_flow_error *error) {
  uint32_t *holder = &flow->prompt_group[branch];
  if (*holder == group) return TVM_FLOW_OK;
  *holder = FLOW_NO_GROUP;
  write_inputs(flow, &flow->function.plans[group], FLOW_PROLOGUE, NULL, prompt);
  tvm_flow_status s = flow_function_run(&flow->function, group, FLOW_PROLOGUE, step, branch, error);
  if (!s) *holder = group;
  return s;
}

tvm_flow_status flow_step(tvm_flow *flow, uint32_t step, uint32_t branch, const float *z, const tvm_flow_prompt *prompt,
                          float *prediction, tvm_flow_error *error) {
  static const char names[2][32] = {"branch 0 (conditional)", "branch 1 (unconditional)"};
  const flow_index *index = &flow->index;
  const flow_index_header *h = index->header;
  const flow_index_variant *variant = &index->variants[(uint64_t)step * h->branches + branch];
  const flow_plan *plan = &flow->function.plans[variant->group];
  const float *record = index->records + (uint64_t)step * h->step_floats;
  flow_fold(plan->library.descriptor, plan->weights, record, index->values + variant->first, plan->step_block);

  tvm_flow_status s = flow_plan_step(plan, branch, error);
  if (!s) s = prepare_prompt(flow, variant->group, step, branch, prompt, error);
  if (s) return s;
  write_inputs(flow, plan, FLOW_STEP, z, prompt);
  s = flow_function_run(&flow->function, variant->group, FLOW_STEP, step, branch, error);
  const float *made = flow_plan_output(plan);
  if (!s) s = flow_expect_finite("step", step, names[branch], made, index->output_floats, error);
  if (!s) memcpy(prediction, made, index->output_floats * sizeof(float));
  return s;
}
