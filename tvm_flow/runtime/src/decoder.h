/* The handle of a decoder. */
#ifndef TVM_FLOW_DECODER_HANDLE_H
#define TVM_FLOW_DECODER_HANDLE_H

#include "../include/tvm_flow_decoder.h"
#include "decoder_file.h"
#include "function.h"

struct tvm_flow_decoder {
  flow_function function;
  flow_decoder_file file;
};

#endif
