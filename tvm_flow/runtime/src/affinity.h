/* Binding threads to CPUs. A new thread inherits the CPUs of the one that creates it, on Linux with any C library, so
 * a worker is bound by binding its creator for a moment: no call is needed that musl or Android lacks. */
#ifndef TVM_FLOW_AFFINITY_H
#define TVM_FLOW_AFFINITY_H

#include "error.h"
#include "platform.h"

/* Each CPU is named once and fits the mask that the system calls take. */
tvm_flow_status flow_check_cpus(const uint32_t *cpus, uint32_t count, tvm_flow_error *error);

/* Binds the calling thread; row is its place in options.cpus, for the message. The system knows whether the CPU exists,
 * is online and allowed. */
tvm_flow_status flow_bind_cpu(const uint32_t *cpus, uint32_t row, tvm_flow_error *error);

#endif
