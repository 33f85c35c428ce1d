#include "affinity.h"

#include <errno.h>
#include <string.h>

tvm_flow_status flow_check_cpus(const uint32_t *cpus, uint32_t count, tvm_flow_error *error) {
  flow_cpu_set seen;
  CPU_ZERO(&seen);
  if (count && !cpus) return flow_no_rows(error, "cpus", count);
  for (uint32_t i = 0; i < count; i++) {
    if (cpus[i] >= CPU_SETSIZE)
      return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.cpus[%u]: expected a CPU below %d, got %u; see "
                       "/sys/devices/system/cpu/online", i, CPU_SETSIZE, cpus[i]);
    if (CPU_ISSET(cpus[i], &seen))
      return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT, "options.cpus[%u]: expected each CPU once, got %u again; name "
                       "one for each thread", i, cpus[i]);
    CPU_SET(cpus[i], &seen);
  }
  return TVM_FLOW_OK;
}

tvm_flow_status flow_bind_cpu(const uint32_t *cpus, uint32_t row, tvm_flow_error *error) {
  flow_cpu_set one;
  CPU_ZERO(&one);
  CPU_SET(cpus[row], &one);
  if (flow_set_cpus(&one) == 0) return TVM_FLOW_OK;
  return flow_fail(error, TVM_FLOW_INVALID_ARGUMENT,
                   "options.cpus[%u]: expected a CPU that is there, online and allowed for this process, got %u: %s; "
                   "see /sys/devices/system/cpu/online and the process's cpuset", row, cpus[row], strerror(errno));
}
