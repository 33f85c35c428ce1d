/* How many threads to run on which cores, where the application leaves that open.
 *
 * A parallel loop ends with its last task, so it waits for the slowest core that took one: a core less than half
 * as fast as the fastest takes none by default. Such cores differ by more than the kernel's figure for them says:
 * cpu_capacity is measured on code without vectors, and little cores have fewer vector units. */
#ifndef TVM_FLOW_CORES_H
#define TVM_FLOW_CORES_H

#include "platform.h"

typedef struct {
  uint32_t threads;
  int differ;       /* the cores that they run on, in speed */
  int confined;     /* they are to stay on `set`, which is less than the calling thread may use */
  flow_cpu_set set; /* those that are big */
} flow_cores;

/* `threads` of 0: one for each of `cpus`, which are checked, or without any one for each big core that the calling
 * thread may use, and no more than its container's control group has time for. Others are used where more
 * threads are asked for than there are big ones. */
void flow_choose_cores(uint32_t threads, const uint32_t *cpus, uint32_t num_cpus, flow_cores *out);

#endif
