/* The handle of a decoder. */
#ifndef TVM_FLOW_DECODER_HANDLE_H
#define TVM_FLOW_DECODER_HANDLE_H

#include "../include/tvm_flow_decoder.h"
#include "decoder_file.h"
#include "plan.h"

struct tvm_flow_decoder {
  char *bundle_dir;
  flow_decoder_file file;
  flow_index_header header; /* what `index` points to */
  flow_index index;         /* a bundle's index as far as a library's checks read it */
  flow_map weights;
  flow_context context;
  flow_plan plan;
  int bound;
  uint8_t *arena;
  tvm_flow_trace trace;
  void *trace_user;
};

#endif
