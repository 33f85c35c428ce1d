/* A device that runs segments of a plan: the CPU is one, always there; others are linked in or loaded by the program.
 *
 *   extern const tvm_flow_device_type tvm_flow_device_vulkan;
 *   const tvm_flow_device_type *const devices[] = {&tvm_flow_device_vulkan};
 *   const tvm_flow_options options = {.struct_bytes = sizeof options, .num_devices = 1, .devices = devices};
 *
 * A library (tvm_flow_library.h) lists the devices that its plan needs by name; opening a bundle fails with
 * TVM_FLOW_NO_DEVICE, naming it, when the program brings none of that name. Nothing falls back by itself.
 *
 * A plan is a list of segments: runs of calls for one device, in the order of the calls. A tensor lies in a space
 * (tvm_flow_library.h) of one device. WEIGHTS and STEP have the same bytes on every device: a device takes of them what
 * its tensors name. ARENA and PROMPT are each device's own, as long as its row of the library's table says; PROMPT is
 * there once for each branch. One plan runs at a time, and what it leaves in ARENA nobody reads, so plans may share one
 * ARENA; they may share PROMPT too, for the runtime has it made again when another plan wrote it. What a segment reads
 * that another device wrote is listed as a copy between two tensors of equal size, made before the segment through the
 * host's memory.
 *
 * Calls, for one handle, from one thread at a time:
 *
 *   open     once for a handle; the weights stay mapped until close
 *   bind     once for each library that names the device; the tables are checked before and stay until unbind
 *   step     before the calls of a (step, branch): the STEP block was filled anew
 *   write    host bytes into a tensor of the device: a copy to it, or an input
 *   read     a tensor of the device into host bytes: a copy from it, an output, or for a trace
 *   run      calls [first, first + count) of one segment, in order; returns when they are done. Count is at least 1;
 *            with a trace it is 1. The library was entered with the handle's services.
 *   unbind, close
 *
 * Every function that can fail fills the error and returns a status; the message names the device and the call. A
 * device allocates through `services` and logs there; it prints nothing, ends nothing and starts no thread that takes
 * signals.
 */
#ifndef TVM_FLOW_DEVICE_H
#define TVM_FLOW_DEVICE_H

#include "tvm_flow.h"
#include "tvm_flow_library.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TVM_FLOW_DEVICE_ABI 1u

struct tvm_flow_device_type;

/* What a device gets when it is opened. */
typedef struct {
  uint32_t struct_bytes;
  uint32_t branches; /* PROMPT blocks that a plan needs */
  const tvm_flow_services *services;
  const uint8_t *weights; /* the values of weights.bin, mapped read-only */
  uint64_t weights_bytes;
  uint64_t arena_bytes; /* the most that a plan of the handle needs */
  uint64_t prompt_bytes;
  /* Row of options.devices: the first member of a larger structure where its struct_bytes say so, whose other members
   * are the device's own options. */
  const struct tvm_flow_device_type *type;
} tvm_flow_device_open_info;

/* A plan of which some segments are the device's: those whose `device` is `row`. */
typedef struct {
  uint32_t struct_bytes;
  uint32_t row; /* of library->devices */
  const tvm_flow_library_descriptor *library;
} tvm_flow_device_plan;

/* Which calls to run, and for what. */
typedef struct {
  uint32_t struct_bytes;
  uint32_t segment; /* row of library->segments */
  uint32_t first;   /* call */
  uint32_t count;
  uint32_t step;
  uint32_t branch;
  /* NULL, or where to write how long the calls took in ns by a clock of the device's own; it is left as it is by a
   * device that has none. */
  uint64_t *device_ns;
} tvm_flow_device_run;

typedef struct tvm_flow_device_type {
  uint32_t abi;          /* TVM_FLOW_DEVICE_ABI */
  uint32_t struct_bytes; /* sizeof(tvm_flow_device_type) that it was compiled with */
  const char *name;      /* of the backend: "cpu", "vulkan" */
  tvm_flow_status (*open)(const tvm_flow_device_open_info *info, void **device, tvm_flow_error *error);
  void (*close)(void *device);
  tvm_flow_status (*bind)(void *device, const tvm_flow_device_plan *plan, void **bound, tvm_flow_error *error);
  void (*unbind)(void *bound);
  tvm_flow_status (*step)(void *bound, uint32_t branch, const uint8_t *step_block, tvm_flow_error *error);
  tvm_flow_status (*write)(void *bound, uint32_t tensor, uint32_t branch, const void *host, tvm_flow_error *error);
  tvm_flow_status (*read)(void *bound, uint32_t tensor, uint32_t branch, void *host, tvm_flow_error *error);
  tvm_flow_status (*run)(void *bound, const tvm_flow_device_run *run, tvm_flow_error *error);
} tvm_flow_device_type;

#ifdef __cplusplus
}
#endif
#endif
