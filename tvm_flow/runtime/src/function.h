/* A function of a bundle: its libraries ready to run over one weight file. Step graphs and a decoder are such. */
#ifndef TVM_FLOW_FUNCTION_H
#define TVM_FLOW_FUNCTION_H

#include <stdatomic.h>

#include "../include/tvm_flow_memory.h"
#include "float_mode.h"
#include "plan.h"

typedef struct {
  atomic_int busy; /* a public function runs */
  flow_float_mode mode; /* of its caller, while it runs */
  uint64_t process; /* that opened the handle; a child that it forks has no workers */
  char *bundle_dir;
  flow_map weights;
  flow_context context;
  flow_devices devices;
  flow_plan *plans; /* [groups] */
  uint32_t bound;   /* plans that hold something */
  tvm_flow_memory memory;
  int only_plan;    /* stop where `memory` is known */
  tvm_flow_trace trace;
  void *trace_user;
} flow_function;

/* Copies a structure that begins with its struct_bytes over the defaults in *out, which begins with the newest size;
 * fields past the caller's keep theirs. `name` is the type's, without tvm_flow_, `pointer` where its first one lies. */
tvm_flow_status flow_read_struct(const char *name, size_t pointer, const void *given, void *out,
                                 tvm_flow_error *error);

/* The reverse: as much of a description as the caller knows, and zeros past what it may know more. */
void flow_write_struct(const void *all, size_t known, void *out, size_t bytes);

/* Checks `given`, which may be NULL; fields past the caller's struct_bytes keep their defaults. */
tvm_flow_status flow_read_options(const tvm_flow_options *given, tvm_flow_options *out, tvm_flow_error *error);

/* For a zeroed function. `signature` is read during the call only. After a failure too flow_function_close frees it,
 * and after flow_function_init alone. */
tvm_flow_status flow_function_init(flow_function *function, const char *bundle_dir, const flow_host *host,
                                   tvm_flow_error *error);
tvm_flow_status flow_function_open(flow_function *function, const flow_signature *signature,
                                   const tvm_flow_options *options, tvm_flow_error *error);
void flow_function_close(flow_function *function);

/* Every public function but describe holds the handle while it runs: two at once, on two threads or inside a callback,
 * would share inputs and arena. `name` is the function's, for the error. Floats are IEEE's default until it leaves. */
tvm_flow_status flow_function_take(flow_function *function, const char *name, tvm_flow_error *error);
void flow_function_leave(flow_function *function);

/* Fills function->memory, for libraries that are open; NO_MEMORY where it passes options->memory_limit. */
tvm_flow_status flow_memory_plan(flow_function *function, const flow_signature *signature,
                                 const tvm_flow_options *options, const flow_library *libraries,
                                 tvm_flow_error *error);

/* What both set_trace do. */
tvm_flow_status flow_function_set_trace(flow_function *function, tvm_flow_trace trace, void *user);

/* One part of a group's plan, after flow_plan_step and with the inputs that the part reads in place. */
tvm_flow_status flow_function_run(flow_function *function, uint32_t group, flow_part part, uint32_t step,
                                  uint32_t branch, tvm_flow_error *error);

#endif
