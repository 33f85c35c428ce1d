/* A payload whose every number was looked at. */
#ifndef TVM_FLOW_VF_PAYLOAD_H
#define TVM_FLOW_VF_PAYLOAD_H

#include "payload.h"
#include "tvm_flow_device.h"
#include "vf_error.h"

enum { VF_MOST_ARGS = 32 }; /* of a dispatch: their words are what every device takes as push constants */

typedef struct {
  const vf_header *header;
  const vf_module *modules;
  const vf_pipeline *pipelines;
  const vf_constant *constants;
  const vf_kernel *kernels;
  const vf_dispatch *dispatches;
  const vf_arg *args;
  const uint32_t *calls;
  const uint32_t *code;
} vf_payload;

static inline uint32_t vf_count_bits(uint32_t bits) {
  uint32_t count = 0;
  for (; bits; bits &= bits - 1) count++;
  return count;
}

/* The payload of the segments of device `row`, and whether their calls can be made of it. BAD_LIBRARY names the table
 * and its row. The library's own tables passed their checks. */
tvm_flow_status vf_payload_read(const tvm_flow_library_descriptor *library, uint32_t row, vf_payload *out,
                                tvm_flow_error *error);

#endif
