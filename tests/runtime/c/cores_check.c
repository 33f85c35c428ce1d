/* cores_check USABLE THREADS [CPU...]: what is chosen where this thread may use the CPUs of the mask USABLE, in hex, on
 * the system below SYSTEM_ROOT: threads, whether cores differ, whether they are confined, and the mask of big ones.
 *
 * cores_check run: threads, tasks, where the caller is while a pool runs, and where it is afterwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"

static unsigned long usable;

int __real_sched_getaffinity(pid_t who, size_t bytes, cpu_set_t *out);
int __wrap_sched_getaffinity(pid_t who, size_t bytes, cpu_set_t *out) {
  if (!usable) return __real_sched_getaffinity(who, bytes, out);
  memset(out, 0, bytes);
  for (unsigned cpu = 0; cpu < 64; cpu++)
    if (usable >> cpu & 1) CPU_SET(cpu, out);
  return 0;
}

static unsigned long mask_of(const cpu_set_t *set) {
  unsigned long mask = 0;
  for (unsigned cpu = 0; cpu < 64; cpu++) mask |= (unsigned long)!!CPU_ISSET(cpu, set) << cpu;
  return mask;
}

static int look(int id, int count, void *data) {
  cpu_set_t mine;
  (void)id, (void)count;
  if (sched_getaffinity(0, sizeof mine, &mine)) return 1;
  *(unsigned long *)data |= mask_of(&mine);
  return 0;
}

static int run(void) {
  const flow_host host = flow_host_of(NULL);
  const flow_pool_options options = {.host = &host};
  unsigned long seen = 0;
  cpu_set_t before, kept, after;
  flow_pool *pool;
  if (sched_getaffinity(0, sizeof before, &before) || flow_pool_create(&options, &pool, NULL)) return 1;
  if (flow_pool_enter(pool, &kept, NULL) || flow_pool_run(pool, look, &seen, 1)) return 1;
  flow_pool_leave(pool, &kept);
  if (sched_getaffinity(0, sizeof after, &after)) return 1;
  printf("%u %d %lx %lx\n", flow_pool_threads(pool), flow_pool_tasks(pool), seen, mask_of(&after));
  flow_pool_destroy(pool);
  return !CPU_EQUAL(&before, &after);
}

int main(int argc, char **argv) {
  uint32_t cpus[64];
  if (strcmp(argv[1], "run") == 0) return run();
  usable = strtoul(argv[1], NULL, 16);
  for (int i = 3; i < argc; i++) cpus[i - 3] = (uint32_t)atoi(argv[i]);
  flow_cores found;
  flow_choose_cores((uint32_t)atoi(argv[2]), cpus, (uint32_t)argc - 3, &found);
  printf("%u %d %d %lx\n", found.threads, found.differ, found.confined, mask_of(&found.set));
  return 0;
}
