/* A step group ready to run: its tensors bound to memory, its constants of one (step, branch) folded. */
#ifndef TVM_FLOW_PLAN_H
#define TVM_FLOW_PLAN_H

#include "../include/tvm_flow_trace.h"
#include "hooks.h"
#include "library.h"
#include "tvm_abi.h"

/* The two runs of calls of the header. */
typedef enum { FLOW_PROLOGUE = 0, FLOW_STEP = 1 } flow_part;

typedef struct {
  flow_library library;
  uint8_t *step_block;   /* [step_bytes]; what no fold writes stays zero */
  flow_dltensor *tensors; /* [num_tensors] */
  flow_any *args;        /* [num_args] */
  tvm_flow_view *views;  /* [num_args], for the trace */
  uint8_t reads[2][FLOW_GRAPH_INPUTS]; /* whether a part reads an input */
} flow_plan;

typedef struct {
  flow_context *context;
  tvm_flow_trace trace;
  void *trace_user;
  uint32_t step;
  uint32_t branch;
} flow_plan_run;

/* Takes over `library` on success. arena and prompt are at least as long as the descriptor says; weights may be NULL
 * when none are used. */
tvm_flow_status flow_plan_bind(const flow_library *library, uint8_t *arena, uint8_t *prompt, const uint8_t *weights,
                               flow_plan *out, tvm_flow_error *error);

/* Lets the plan's PROMPT tensors lie at `prompt` from now on. */
void flow_plan_use_prompt(flow_plan *plan, uint8_t *prompt);

void flow_plan_free(flow_plan *plan);

/* The folds of the header: constants of one (step, branch) into the step block. Not contracted: -ffp-contract=off. */
void flow_fold(const tvm_flow_library_descriptor *descriptor, const uint8_t *weights, const float *step,
               const float *variant, uint8_t *step_block);

/* The kernels of one part in order. */
tvm_flow_status flow_plan_execute(const flow_plan *plan, flow_part part, const flow_plan_run *run,
                                  tvm_flow_error *error);

/* Zeroed memory on a 64-byte boundary, for free(); NULL when there is none. */
void *flow_alloc(uint64_t bytes);

#endif
