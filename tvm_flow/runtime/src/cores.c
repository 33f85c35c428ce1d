#include "cores.h"

#include <stdio.h>

#ifndef SYSTEM_ROOT /* a test has a system of its own */
#define SYSTEM_ROOT ""
#endif

/* Two numbers that a file begins with, 0 where it has none; the first of them. */
static uint32_t read_numbers(const char *path, uint32_t numbers[2]) {
  FILE *file = fopen(path, "re");
  numbers[0] = numbers[1] = 0;
  if (file) {
    if (fscanf(file, "%u %u", &numbers[0], &numbers[1]) < 1) numbers[0] = 0;
    fclose(file);
  }
  return numbers[0];
}

/* The kernel's measure of a core's speed: 1024 for the fastest; absent where all are alike, as on x86. 0: not known. */
static uint32_t capacity(uint32_t cpu) {
  char path[128];
  uint32_t numbers[2];
  snprintf(path, sizeof path, SYSTEM_ROOT "/sys/devices/system/cpu/cpu%u/cpu_capacity", cpu);
  return read_numbers(path, numbers);
}

/* Leaves those cores of `set` that are at least half as fast as the fastest; whether these differ. */
static int drop_little(flow_cpu_set *set) {
  uint32_t speeds[CPU_SETSIZE], fastest = 0;
  int differ = 0;
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    speeds[cpu] = CPU_ISSET(cpu, set) ? capacity(cpu) : 0;
    if (speeds[cpu] > fastest) fastest = speeds[cpu];
  }
  for (uint32_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!speeds[cpu]) continue;
    if (speeds[cpu] < fastest / 2) CPU_CLR(cpu, set);
    else differ |= speeds[cpu] < fastest;
  }
  return differ;
}

void flow_choose_cores(uint32_t threads, const uint32_t *cpus, uint32_t num_cpus, flow_cores *out) {
  uint32_t quota[2];
  CPU_ZERO(&out->set);
  if (!num_cpus) flow_get_cpus(&out->set);
  for (uint32_t i = 0; i < num_cpus; i++) CPU_SET(cpus[i], &out->set);
  const int usable = CPU_COUNT(&out->set);
  out->differ = drop_little(&out->set);
  const int big = CPU_COUNT(&out->set), left_out = big < usable;
  out->threads = threads ? threads : num_cpus;
  if (!out->threads) {
    out->threads = big ? (uint32_t)big : 1;
    if (read_numbers(SYSTEM_ROOT "/sys/fs/cgroup/cpu.max", quota) && quota[1] && quota[0] / quota[1] < out->threads)
      out->threads = quota[0] < quota[1] ? 1 : quota[0] / quota[1];
  }
  out->confined = left_out && !num_cpus && (int)out->threads <= big;
  if (!out->confined) out->differ |= left_out;
}
