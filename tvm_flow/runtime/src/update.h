/* The sampler's arithmetic; tvm_flow.sampler.update states it and says how exact it is. */
#ifndef TVM_FLOW_UPDATE_H
#define TVM_FLOW_UPDATE_H

#include "../include/tvm_flow.h"

typedef struct {
  const tvm_flow_update *row;
  double cfg;
  uint64_t count;        /* values of the latent */
  uint64_t guided;       /* the first so many of them are guided */
  const float *cond;     /* [count] */
  const float *uncond;   /* [guided] */
  const float *variance; /* [count], or NULL */
  const float *fresh;    /* [count]; not read where sigma is 0 */
} flow_update_inputs;

/* One step of `z` [count], in place. */
void flow_update(const flow_update_inputs *inputs, float *z);

#endif
