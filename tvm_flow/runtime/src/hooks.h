/* The functions that kernels call back. Their signatures carry no handle, so the plan being run is found through a
 * thread-local pointer, which every task of a parallel loop sets for its own duration. */
#ifndef TVM_FLOW_HOOKS_H
#define TVM_FLOW_HOOKS_H

#include <pthread.h>

#include "../include/tvm_flow_library.h"
#include "pool.h"

typedef struct {
  flow_pool *pool;
  pthread_mutex_t lock; /* tasks on several threads may raise at once */
  char message[384];    /* of the first error raised; empty when none was */
} flow_context;

/* Fills a library's hook table. Handles that share a library write the same values. */
void flow_hooks_fill(tvm_flow_hooks *hooks);

/* Makes `context` current on this thread; returns the one before, to be restored. */
flow_context *flow_context_enter(flow_context *context);

#endif
