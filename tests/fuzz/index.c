/* steps.bin. What is accepted is read to its last number. */
#include "index.h"

#include "given.h"

static volatile double sum;

int target_attempt(const uint8_t *data, size_t bytes) {
  given file = {data, bytes};
  const flow_host host = host_of(&file);
  flow_index index;
  tvm_flow_error error;
  const tvm_flow_status s = flow_index_open("b", &host, &index, &error);
  if (s) return (int)s;
  const flow_index_header *h = index.header;
  for (uint32_t i = 0; i < h->steps; i++) {
    sum += (double)index.t[i] + index.updates[i].sigma;
    for (uint32_t k = 0; k < h->step_floats; k++) sum += (double)index.records[(uint64_t)i * h->step_floats + k];
    for (uint32_t b = 0; b < h->branches; b++) {
      const flow_index_variant *v = &index.variants[(uint64_t)i * h->branches + b];
      const flow_index_group *group = &index.groups[v->group];
      for (uint32_t k = 0; k < group->variant_floats; k++) sum += (double)index.values[v->first + k];
      sum += (double)strlen(group->path);
    }
  }
  sum += (double)strlen(index.sampler);
  flow_index_close(&index);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return with_digest(data, bytes); }
