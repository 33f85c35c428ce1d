/* The CPU as a device: kernels of the library on the handle's thread pool, every space in this process's memory. */
#ifndef TVM_FLOW_DEVICE_CPU_H
#define TVM_FLOW_DEVICE_CPU_H

#include "../include/tvm_flow_device.h"

enum { FLOW_MAX_BRANCHES = 2 };

/* Its services are a flow_context's. */
extern const tvm_flow_device_type flow_device_cpu;

/* Where one of the CPU's tensors lies for the branch of the last step(). */
void *flow_cpu_tensor(const void *bound, uint32_t tensor);

/* Bytes of what open and bind allocate besides arena and prompts, for a device and for a library bound to it. */
uint64_t flow_cpu_bytes(void);
uint64_t flow_cpu_plan_bytes(const tvm_flow_library_descriptor *library);

/* Gives the pages of arena and prompts back; `device` is what open gave. */
void flow_cpu_trim(const void *device);

#endif
