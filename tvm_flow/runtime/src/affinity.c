#include "affinity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

uint32_t flow_usable_cpus(void) {
  flow_cpu_set set;
  int count = flow_get_cpus(&set) == 0 ? CPU_COUNT(&set) : 1;
  return count < 1 ? 1u : (uint32_t)count;
}

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

#ifndef CAPACITY_FILE /* a test has another place */
#define CAPACITY_FILE "/sys/devices/system/cpu/cpu%u/cpu_capacity"
#endif

/* The kernel's measure of a core's speed: 1024 for the fastest; absent where all are alike, as on x86. 0: not known. */
static int capacity(uint32_t cpu) {
  char path[256];
  int value = 0;
  snprintf(path, sizeof path, CAPACITY_FILE, cpu);
  FILE *file = fopen(path, "re");
  if (!file) return 0;
  if (fscanf(file, "%d", &value) != 1) value = 0;
  fclose(file);
  return value;
}

int flow_cpus_differ(const uint32_t *cpus, uint32_t count) {
  flow_cpu_set set;
  CPU_ZERO(&set);
  if (count == 0 && flow_get_cpus(&set) != 0) return 0;
  for (uint32_t i = 0; i < count; i++) CPU_SET(cpus[i], &set);
  int known = 0;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    int value = CPU_ISSET(cpu, &set) ? capacity(cpu) : 0;
    if (value && known && value != known) return 1;
    if (value) known = value;
  }
  return 0;
}
