/* The Vulkan device's payload: dispatches, pipelines and SPIR-V of a library. Of what is accepted every range is read.
 *
 * The library has two calls of four arguments. */
#include "vf_payload.h"

#include "given.h"
#include "vf_features.h"

static volatile uint32_t sum;

static void read_code(const vf_payload *p, const vf_module *module) {
  const vf_facts facts = {.has = UINT32_MAX, .most_spirv = 0x10600};
  tvm_flow_error error;
  int dot;
  if (vf_check_module(&facts, p->code + module->first_word, module->words, &dot, &error)) return;
  for (uint32_t i = 0; i < module->words; i++) sum += p->code[module->first_word + i];
}

static void read_calls(const vf_payload *p) {
  for (uint32_t call = 0; call < 2; call++) {
    const vf_kernel *kernel = &p->kernels[p->calls[call]];
    for (uint32_t i = 0; i < kernel->num_dispatches; i++) {
      const vf_dispatch *d = &p->dispatches[kernel->first_dispatch + i];
      const vf_pipeline *pipeline = &p->pipelines[d->pipeline];
      if (pipeline->fallback != VF_NONE) sum += p->pipelines[pipeline->fallback].module;
      for (uint32_t k = 0; k < pipeline->num_constants; k++) sum += p->constants[pipeline->first_constant + k].value;
      for (uint32_t k = 0; k < d->num_args; k++) {
        const vf_arg *arg = &p->args[d->first_arg + k];
        if (arg->position == VF_NONE && (uint64_t)arg->offset + arg->bytes > p->header->scratch_bytes) abort();
      }
      read_code(p, &p->modules[pipeline->module]);
    }
  }
}

int target_attempt(const uint8_t *data, size_t bytes) {
  uint8_t *exact = malloc(bytes + !bytes);
  memcpy(exact, data, bytes);
  static const tvm_flow_call calls[] = {{0, 0, 4}, {0, 0, 4}};
  const tvm_flow_segment segments[] = {{.device = 1, .num_calls = 2, .payload = exact, .payload_bytes = bytes}};
  const tvm_flow_library_descriptor library = {
      .num_calls = 2, .calls = calls, .num_segments = 1, .segments = segments};
  tvm_flow_error error;
  vf_payload payload;
  const tvm_flow_status s = vf_payload_read(&library, 1, &payload, &error);
  if (!s) read_calls(&payload);
  free(exact);
  return (int)s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) { return target_attempt(data, bytes), 0; }

/* One module of a capability, one pipeline with a constant and a fallback, two kernels. */
size_t target_seed(uint8_t *out, size_t most) {
  const struct {
    vf_header header;
    vf_module modules[1];
    vf_pipeline pipelines[2];
    vf_constant constants[1];
    vf_kernel kernels[2];
    vf_dispatch dispatches[2];
    vf_arg args[4];
    uint32_t calls[2], code[8];
  } seed = {.header = {VF_PAYLOAD_MAGIC, VF_PAYLOAD_VERSION, sizeof seed, 1, 2, 1, 2, 2, 4, 2, 8, 256},
            .modules = {{0, 8}},
            .pipelines = {{0, 1, {8, 1, 1}, 0, 3, 2, 0, 1}, {0, VF_NONE, {8, 1, 1}, 0, 3, 2, 0, 0}},
            .constants = {{1, 2}},
            .kernels = {{0, 1}, {1, 1}},
            .dispatches = {{0, {1, 1, 1}, 0, 2}, {1, {1, 2, 3}, 2, 2}},
            .args = {{0, 0, VF_READ, 0, 0},
                     {3, 1, VF_WRITE, 0, 0},
                     {VF_NONE, 0, VF_READ, 64, 128},
                     {3, 1, VF_WRITE, 0, 0}},
            .calls = {0, 1},
            .code = {0x07230203, 0x10300, 0, 8, 0, 2u << 16 | 17, 1, 0}};
  if (most < sizeof seed || target_attempt((const void *)&seed, sizeof seed)) abort();
  memcpy(out, &seed, sizeof seed);
  return sizeof seed;
}
