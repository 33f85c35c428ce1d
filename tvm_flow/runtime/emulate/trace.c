/* Runs a bundle's golden input in a static program with the libraries linked in: trace BUNDLE THREADS PART, where PART
 * is one of trace_records.h, whose records go to stdout. On failure the reason is on stderr and the exit code is 1. */
#include "trace_records.h"
#include "tvm_flow_groups.h"

int main(int argc, char **argv) {
  if (argc != 4) return fputs("usage: trace BUNDLE THREADS generate|decode|time|verify\n", stderr), 2;
  const tvm_flow_options options = {.struct_bytes = sizeof options,
                                    .threads = (uint32_t)strtoul(argv[2], NULL, 10),
                                    .num_linked = tvm_flow_num_linked_groups,
                                    .linked = tvm_flow_linked_groups};
  trace_to = stdout;
  if (!trace_run(argv[1], argv[3], &options)) return 0;
  return fprintf(stderr, "%s\n", trace_error.message), 1;
}
