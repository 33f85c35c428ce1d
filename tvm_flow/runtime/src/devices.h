/* The devices of a handle: the CPU, and of those that the program brings what its libraries name. */
#ifndef TVM_FLOW_DEVICES_H
#define TVM_FLOW_DEVICES_H

#include "../include/tvm_flow_device.h"
#include "error.h"
#include "host.h"

typedef struct {
  const tvm_flow_device_type *type;
  void *device;
  uint64_t arena_bytes; /* the most that a library needs */
  uint64_t prompt_bytes;
} flow_device;

typedef struct {
  const flow_host *host;
  uint32_t count;
  uint32_t opened;                        /* of them, in order */
  flow_device rows[TVM_FLOW_MAX_DEVICES]; /* row 0: the CPU */
} flow_devices;

/* Whether options.devices can be used with this runtime. */
tvm_flow_status flow_check_device_types(const tvm_flow_options *options, tvm_flow_error *error);

/* Adds what the library at `path` needs, which passed its checks; opens nothing. */
tvm_flow_status flow_devices_add(flow_devices *devices, const char *path, const tvm_flow_library_descriptor *library,
                                 const tvm_flow_options *options, tvm_flow_error *error);

/* Opens all that were added, with their own numbers in place of those of `info`. */
tvm_flow_status flow_devices_open(flow_devices *devices, const tvm_flow_device_open_info *info, tvm_flow_error *error);

void flow_devices_close(flow_devices *devices);

/* The added device of row `row` of a library. */
const flow_device *flow_devices_of(const flow_devices *devices, const tvm_flow_library_descriptor *library,
                                   uint32_t row);

#endif
