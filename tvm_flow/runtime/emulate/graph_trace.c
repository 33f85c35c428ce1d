/* Runs a graph once, linked into this program, on inputs from stdin: their elements, one after the other.
 *
 * Writes to stdout, little endian, what tvm_flow.check.graph_check reads: for every kernel call uint32 call, tensors,
 * then each tensor's elements, the last one written by it; and after the last call, uint32 UINT32_MAX, outputs, and
 * each output's elements. Types and shapes are the plan's. On failure the exit code is 1, and stderr says why.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../embed/graph_run.h"

extern const graph traced_graph;

static int failed(const char *message) {
  fprintf(stderr, "%s\n", message);
  return 1;
}

static int put(const void *data, uint64_t bytes) { return fwrite(data, 1, (size_t)bytes, stdout) != bytes; }

static int put_head(uint32_t call, uint32_t tensors) {
  const uint32_t words[] = {call, tensors};
  return put(words, sizeof words);
}

static int on_call(void *user, const graph *g, uint32_t index, void *const *data) {
  const tvm_flow_call *call = &g->library->calls[index];
  (void)user;
  if (put_head(index, call->num_args)) return 1;
  for (uint32_t i = 0; i < call->num_args; i++)
    if (put(data[i], graph_tensor_bytes(&g->library->tensors[g->library->args[call->first_arg + i]]))) return 1;
  return 0;
}

static void *buffer(uint64_t bytes) { return malloc(bytes ? (size_t)bytes : 1); }

int main(void) {
  const graph *g = &traced_graph;
  const tvm_flow_library_descriptor *d = g->library;
  void **inputs = buffer(d->num_inputs * sizeof *inputs), **outputs = buffer(g->num_outputs * sizeof *outputs);
  if (!inputs || !outputs) return failed("no memory for tables");
  for (uint32_t i = 0; i < d->num_inputs; i++) {
    const size_t bytes = (size_t)graph_tensor_bytes(&d->tensors[d->inputs[i]]);
    inputs[i] = buffer(bytes);
    if (!inputs[i] || fread(inputs[i], 1, bytes, stdin) != bytes) return failed("could not read the inputs");
  }
  for (uint32_t i = 0; i < g->num_outputs; i++)
    if (!(outputs[i] = buffer(graph_tensor_bytes(&d->tensors[g->outputs[i]])))) return failed("no memory for outputs");
  const int code = graph_run(g, (const void *const *)inputs, outputs, NULL, on_call, NULL);
  if (code == GRAPH_WRONG_CPU) return failed("this processor lacks a feature that the kernels use");
  if (code) return failed(code == GRAPH_NO_MEMORY ? "no memory for the arena" : "a kernel failed, or stdout is closed");
  if (put_head(UINT32_MAX, g->num_outputs)) return failed("could not write the outputs");
  for (uint32_t i = 0; i < g->num_outputs; i++)
    if (put(outputs[i], graph_tensor_bytes(&d->tensors[g->outputs[i]]))) return failed("could not write the outputs");
  return fflush(stdout) != 0; /* the system takes all memory back */
}
