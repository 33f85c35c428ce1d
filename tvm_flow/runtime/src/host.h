/* What the program lends a handle: memory, an ear, where files are, and a word on whether they may be opened. */
#ifndef TVM_FLOW_HOST_H
#define TVM_FLOW_HOST_H

#include "../include/tvm_flow.h"

typedef struct {
  tvm_flow_allocate allocate;
  tvm_flow_release release;
  tvm_flow_log log; /* NULL: nobody listens */
  tvm_flow_find find; /* NULL: files lie in folders */
  void *user;
  tvm_flow_accept accept; /* NULL: every whole bundle is */
  void *accept_user;
  int follow; /* links are followed: files of no bundle */
} flow_host;

/* The system's memory where the options bring none. NULL is allowed. */
flow_host flow_host_of(const tvm_flow_options *options);

/* Zeroed memory on a 64-byte boundary, for flow_free; NULL when there is none. */
void *flow_alloc(const flow_host *host, uint64_t bytes);

/* What flow_alloc asks for, for `bytes` of at most SIZE_MAX / 2; more stays as it is. */
uint64_t flow_rounded(uint64_t bytes);

/* NULL is allowed. */
void flow_free(const flow_host *host, void *memory);

#endif
