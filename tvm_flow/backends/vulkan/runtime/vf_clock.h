/* How long commands take by the device's own clock. Where nobody asks there is no query, and nothing is recorded. */
#ifndef TVM_FLOW_VF_CLOCK_H
#define TVM_FLOW_VF_CLOCK_H

#include "vf_device.h"

/* Before the first of those below; for a queue with clock_bits. Nothing is done where it is open. */
tvm_flow_status vf_clock_open(vf_device *device, tvm_flow_error *error);
void vf_clock_close(vf_device *device);

/* Record a reading before and after what is timed. */
void vf_clock_start(vf_device *device, VkCommandBuffer commands);
void vf_clock_stop(vf_device *device, VkCommandBuffer commands);

/* The time between the two, when the commands have run. */
tvm_flow_status vf_clock_read(vf_device *device, uint64_t *nanoseconds, tvm_flow_error *error);

#endif
