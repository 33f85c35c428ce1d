/* Filling the caller's error buffer. */
#ifndef TVM_FLOW_ERROR_H
#define TVM_FLOW_ERROR_H

#include "../include/tvm_flow.h"

/* Writes status and message; returns status, so that a check reads `return flow_fail(error, ...)`. */
__attribute__((format(printf, 3, 4))) tvm_flow_status flow_fail(tvm_flow_error *error, tvm_flow_status status,
                                                                const char *format, ...);

#endif
