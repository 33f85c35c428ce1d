/* Runs a library that is one graph by itself: no steps, no prompt, no bundle.
 *
 * tvm-flow import generates a C file with the graph's tables and one exported function, NAME_run, which calls this.
 */
#ifndef TVM_FLOW_GRAPH_RUN_H
#define TVM_FLOW_GRAPH_RUN_H

#include "tvm_flow_library.h"

/* What NAME_run returns. */
enum { GRAPH_OK = 0, GRAPH_NO_MEMORY = 1, GRAPH_WRONG_CPU = 2, GRAPH_KERNEL_FAILED = 3 };

typedef struct {
  const tvm_flow_library_descriptor *library; /* all calls are the CPU's; tensors lie in ARENA and WEIGHTS */
  const unsigned char *weights;               /* 64 divides its address */
  const uint32_t *outputs;                    /* tensor indices */
  uint32_t num_outputs;
  uint64_t memory_bytes; /* the arena, and 64 bytes for each argument of the call that has most */
} graph;

/* Shown every call that is done, with the addresses of its tensors; non-zero ends the run. */
typedef int (*graph_see)(void *user, const graph *g, uint32_t call, void *const *data);

/* `memory`: memory_bytes of which 64 divides the address, for this run alone; NULL: the C library's. Reentrant: threads
 * may run one graph at the same time, each in its own memory. `see` may be NULL. */
int graph_run(const graph *g, const void *const *inputs, void *const *outputs, void *memory, graph_see see, void *user);

uint64_t graph_tensor_bytes(const tvm_flow_tensor *tensor);

#endif
