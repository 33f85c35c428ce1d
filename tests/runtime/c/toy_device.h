/* Two devices of a test, "toy" and "other": memory of their own, kernels from a segment's payload. */
#ifndef TOY_DEVICE_H
#define TOY_DEVICE_H

#include <stdatomic.h>

#include "tvm_flow_device.h"

/* In the order of calls; TOY_NONE fails nothing. */
typedef enum { TOY_NONE, TOY_OPEN, TOY_BIND, TOY_STEP, TOY_WRITE, TOY_READ, TOY_RUN } toy_function;

enum { TOY_DEVICES = 2 };

extern const tvm_flow_device_type *const toy_devices[TOY_DEVICES];
extern _Atomic toy_function toy_failing; /* what answers TVM_FLOW_KERNEL_FAILED */
extern atomic_int toy_held;              /* devices and plans that are open */

#endif
