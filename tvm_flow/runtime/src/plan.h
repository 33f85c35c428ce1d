/* A library ready to run: its tables handed to its devices, its constants of one (step, branch) folded. */
#ifndef TVM_FLOW_PLAN_H
#define TVM_FLOW_PLAN_H

#include "../include/tvm_flow_trace.h"
#include "devices.h"
#include "library.h"
#include "services.h"

typedef struct {
  const tvm_flow_device_type *type;
  void *bound;
} flow_bound;

typedef struct {
  const flow_host *host;
  flow_library library;
  const uint8_t *weights;
  flow_bound devices[TVM_FLOW_MAX_DEVICES]; /* by row of the library's table */
  uint32_t num_bound;
  const tvm_flow_segment *segments; /* the library's, or `own` where it has none */
  uint32_t num_segments;
  tvm_flow_segment own[2];
  uint8_t *step_block;  /* [step_bytes]; what no fold writes stays zero */
  uint8_t *staging;     /* for copies that neither come from the CPU nor go there */
  tvm_flow_view *views; /* [most arguments of a call], for the trace */
  uint8_t reads[2][FLOW_MAX_INPUTS]; /* whether a part reads an input */
} flow_plan;

typedef struct {
  flow_context *context;
  tvm_flow_trace trace;
  void *trace_user;
  uint32_t step;
  uint32_t branch;
} flow_plan_run;

typedef struct {
  uint64_t started_ns;
  uint64_t ended_ns;
  uint64_t device_ns;
} flow_timed;

/* Takes over `library` on success. `devices` are open and have what it needs; weights may be NULL when it uses none. */
tvm_flow_status flow_plan_bind(const flow_library *library, const flow_devices *devices, const uint8_t *weights,
                               flow_plan *out, tvm_flow_error *error);

/* Bytes that flow_plan_bind allocates besides the step block, on the CPU. */
uint64_t flow_plan_bytes(const tvm_flow_library_descriptor *library);

void flow_plan_free(flow_plan *plan);

/* The folds of the header: constants of one (step, branch) into the step block. Not contracted: -ffp-contract=off. */
void flow_fold(const tvm_flow_library_descriptor *descriptor, const uint8_t *weights, const float *step,
               const float *variant, uint8_t *step_block);

/* Tells the devices that the step block is that of `branch` now; before anything that follows. */
tvm_flow_status flow_plan_step(const flow_plan *plan, uint32_t branch, tvm_flow_error *error);

/* Memory of input `input`, or of the output, until the next flow_plan_step. */
float *flow_plan_input(const flow_plan *plan, uint32_t input);
const float *flow_plan_output(const flow_plan *plan);

/* The segments of one part in order. */
tvm_flow_status flow_plan_execute(const flow_plan *plan, flow_part part, const flow_plan_run *run,
                                  tvm_flow_error *error);

/* Shows a finished call to run->trace; what another device holds is read into memory of its own for the while. */
tvm_flow_status flow_plan_trace(const flow_plan *plan, uint32_t segment, uint32_t call, const flow_plan_run *run,
                                flow_timed timed, tvm_flow_error *error);

#endif
