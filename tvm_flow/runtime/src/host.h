/* What the program lends a handle: memory, and an ear. */
#ifndef TVM_FLOW_HOST_H
#define TVM_FLOW_HOST_H

#include "../include/tvm_flow.h"

typedef struct {
  tvm_flow_allocate allocate;
  tvm_flow_release release;
  tvm_flow_log log; /* NULL: nobody listens */
  void *user;
} flow_host;

/* The system's memory where the options bring none. NULL is allowed. */
flow_host flow_host_of(const tvm_flow_options *options);

/* Zeroed memory on a 64-byte boundary, for flow_free; NULL when there is none. */
void *flow_alloc(const flow_host *host, uint64_t bytes);

/* NULL is allowed. */
void flow_free(const flow_host *host, void *memory);

#endif
