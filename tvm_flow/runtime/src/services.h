/* What a handle offers to kernels and devices while it runs a plan. */
#ifndef TVM_FLOW_SERVICES_H
#define TVM_FLOW_SERVICES_H

#include <stdatomic.h>

#include "../include/tvm_flow_library.h"
#include "pool.h"

typedef struct {
  tvm_flow_services services; /* for the thread that runs a plan */
  tvm_flow_services in_task;  /* for a task of a loop: its own loops run on its thread, for the pool is taken */
  tvm_flow_enter enter;       /* of the library whose plan runs; tasks need it */
  flow_host host;
  flow_pool *pool;            /* NULL: every loop runs on its caller's thread */
  flow_mutex lock;            /* tasks on several threads may raise at once */
  atomic_int cancelled;       /* what runs is to stop before its next kernel */
  char message[384];          /* of the first error raised; empty when none was */
} flow_context;

/* The tables of services point back at the context, so it stays where it is until flow_context_close. */
void flow_context_open(flow_context *context, const flow_host *host);

/* The pool goes with it. */
void flow_context_close(flow_context *context);

/* CANCELLED where somebody asked for it; before each call. */
tvm_flow_status flow_check_cancelled(const flow_context *context, uint32_t step, uint32_t branch, uint32_t call,
                                     tvm_flow_error *error);

#endif
