/* A program of an older minor version, with shorter structures, on today's runtime: version_check BUNDLE. */
#include <stdio.h>
#include <string.h>

#include "tvm_flow_decoder.h"

enum { LATENT = 32, TEXT = 12, TOKENS = 3 };

#define EXPECT(condition) \
  if (!(condition)) return fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error.message), 1

/* tvm_flow_description as it was before cfg_scale, and what lies behind it. */
typedef struct {
  char known[offsetof(tvm_flow_description, cfg_scale)];
  char behind[64];
} shorter;

/* One of a later version. */
typedef struct {
  tvm_flow_description known;
  char more[64];
} longer;

int main(int argc, char **argv) {
  const struct {
    uint32_t struct_bytes, threads;
  } old_options = {sizeof old_options, 2};
  static float noise[LATENT], out[LATENT], text[TEXT], mask[TOKENS];
  tvm_flow_request request = {.noise = noise, .cond = {text, mask}, .uncond = {text, mask}};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow_description all;
  shorter small;
  longer large;
  tvm_flow *flow;
  if (argc != 2) return 2;
  EXPECT(tvm_flow_version() == TVM_FLOW_VERSION);
  EXPECT(tvm_flow_open(argv[1], (const void *)&old_options, &flow, &error) == TVM_FLOW_OK);
  memset(&small, 7, sizeof small), memset(&large, 7, sizeof large);
  tvm_flow_describe(flow, &all);
  tvm_flow_describe_sized(flow, (void *)&small, sizeof small.known);
  tvm_flow_describe_sized(flow, &large.known, sizeof large);
  EXPECT(all.threads == 2 && memcmp(&all, &small, sizeof small.known) == 0);
  for (size_t i = 0; i < sizeof small.behind; i++) EXPECT(small.behind[i] == 7);
  EXPECT(large.known.weights_bytes == all.weights_bytes && large.known.updates == all.updates);
  for (size_t i = 0; i < sizeof large.more; i++) EXPECT(large.more[i] == 0);
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_OK);
  request.struct_bytes = sizeof request;
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_OK);
  request.struct_bytes += 8;
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_close(flow) == TVM_FLOW_OK);
  return puts("ok") < 0;
}
