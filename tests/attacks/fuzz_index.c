/* fuzz_index BUNDLE SEED ROUNDS: damages steps.bin in three ways and opens it each time.
 *
 *   cut      every shorter file must be refused
 *   flip     every single flipped bit must be refused
 *   forge    fields overwritten with telling numbers and the digest made to fit: refused, or safe to run
 *
 * Prints how many rounds of each kind ended with each status. Built under the address sanitizer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index.h"
#include "sha256.h"

enum { STATUSES = TVM_FLOW_OLDER_VERSION + 1, HEADER_AND_GROUPS = 700 };

static uint64_t state;

static uint32_t draw(uint32_t below) { /* splitmix64 */
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (uint32_t)((z ^ (z >> 31)) % below);
}

static void save(const char *path, const uint8_t *data, size_t bytes) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) exit(3);
}

static int run(tvm_flow *flow) {
  tvm_flow_description d;
  tvm_flow_describe(flow, &d);
  float *z = calloc(d.latent_floats, sizeof *z), *out = calloc(d.latent_floats, sizeof *out);
  float *text = calloc((size_t)d.text_tokens * d.text_channels, sizeof *text);
  float *mask = calloc(d.text_tokens, sizeof *mask);
  tvm_flow_prompt prompt = {text, mask};
  tvm_flow_request request = {.noise = z, .cond = prompt, .uncond = prompt};
  tvm_flow_status status = tvm_flow_generate(flow, &request, out, NULL, NULL, NULL);
  free(z), free(out), free(text), free(mask);
  return status;
}

static int attempt(const char *bundle) {
  tvm_flow_options options = {sizeof options, 1, 0};
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow *flow;
  tvm_flow_status status = tvm_flow_open(bundle, &options, &flow, &error);
  if (status != error.status || (status && (flow || strlen(error.message) < 20))) {
    fprintf(stderr, "status %d without a message: %s\n", (int)status, error.message);
    exit(4);
  }
  if (!status) status = run(flow);
  tvm_flow_close(flow);
  return (int)status;
}

static void overwrite(uint8_t *data, size_t bytes) {
  static const uint64_t telling[] = {0,          1,           2,          0x7fffffff,          0x80000000,
                                     0xffffffff, 0x100000000, 0x3fffffff, 0x7fffffffffffffff, UINT64_MAX};
  uint64_t value = telling[draw(sizeof telling / sizeof *telling)];
  size_t region = draw(4) ? HEADER_AND_GROUPS : bytes - 8;
  size_t at = draw((uint32_t)region) / 4 * 4;
  if (draw(4) == 0) data[at] ^= (uint8_t)(1u << draw(8));
  else memcpy(data + at, &value, draw(2) ? 4 : 8);
}

static void report(const char *kind, const long counts[STATUSES]) {
  printf("%s", kind);
  for (int i = 0; i < STATUSES; i++) printf(" %ld", counts[i]);
  puts("");
}

int main(int argc, char **argv) {
  static uint8_t good[1 << 16], bad[1 << 16];
  char path[4096];
  if (argc != 4) return 2;
  snprintf(path, sizeof path, "%s/steps.bin", argv[1]);
  FILE *file = fopen(path, "rb");
  size_t bytes = file ? fread(good, 1, sizeof good, file) : 0;
  if (bytes < HEADER_AND_GROUPS || bytes == sizeof good || fclose(file) != 0) return 3;
  state = strtoull(argv[2], NULL, 10);
  long rounds = atol(argv[3]), cut[STATUSES] = {0}, flip[STATUSES] = {0}, forge[STATUSES] = {0};

  for (size_t length = 0; length < bytes; length += 1 + draw(64)) save(path, good, length), cut[attempt(argv[1])]++;
  for (long i = 0; i < rounds; i++) {
    memcpy(bad, good, bytes);
    bad[draw((uint32_t)bytes)] ^= (uint8_t)(1u << draw(8));
    save(path, bad, bytes), flip[attempt(argv[1])]++;
  }
  for (long i = 0; i < rounds; i++) {
    size_t body = bytes - FLOW_SHA256_BYTES;
    memcpy(bad, good, bytes);
    for (uint32_t j = 1 + draw(3); j > 0; j--) overwrite(bad, body);
    flow_sha256(bad, body, bad + body);
    save(path, bad, bytes), forge[attempt(argv[1])]++;
  }
  save(path, good, bytes);
  report("cut", cut), report("flip", flip), report("forge", forge);
  return attempt(argv[1]);
}
