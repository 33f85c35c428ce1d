/* write_in_place BUNDLE: writes every word of steps.bin in place while the bundle is open, and runs it each time.
 *
 * Prints how many runs there were, and how many gave something else than before. Built under the address sanitizer. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tvm_flow.h"

static tvm_flow_description d;
static float *noise, *text, *mask;

static int run(tvm_flow *flow, float *out) {
  const tvm_flow_prompt prompt = {text, mask};
  const tvm_flow_request request = {.noise = noise, .cond = prompt, .uncond = prompt};
  return tvm_flow_generate(flow, &request, out, NULL, NULL, NULL);
}

int main(int argc, char **argv) {
  tvm_flow_options options = {sizeof options, 1, 0};
  tvm_flow *flow;
  char path[4096];
  struct stat status;
  if (argc != 2 || tvm_flow_open(argv[1], &options, &flow, NULL)) return 2;
  tvm_flow_describe(flow, &d);
  noise = calloc(d.latent_floats, sizeof *noise);
  text = calloc((size_t)d.text_tokens * d.text_channels, sizeof *text);
  mask = calloc(d.text_tokens, sizeof *mask);
  float *before = calloc(d.latent_floats, sizeof *before), *after = calloc(d.latent_floats, sizeof *after);
  for (uint64_t i = 0; i < d.latent_floats; i++) noise[i] = (float)i / 8;
  if (run(flow, before)) return 3;
  snprintf(path, sizeof path, "%s/steps.bin", argv[1]);
  int file = open(path, O_RDWR), runs = 0, others = 0;
  if (file < 0 || fstat(file, &status) != 0) return 4;
  for (off_t at = 0; at + 4 <= status.st_size; at += 4, runs++) {
    if (pwrite(file, "\xff\xff\xff\x7f", 4, at) != 4) return 5;
    others += run(flow, after) || memcmp(before, after, d.latent_floats * sizeof *before) != 0;
  }
  if (ftruncate(file, 0) != 0) return 6;
  others += run(flow, after) || memcmp(before, after, d.latent_floats * sizeof *before) != 0;
  printf("%d %d\n", runs, others);
  close(file), tvm_flow_close(flow);
  free(noise), free(text), free(mask), free(before), free(after);
  return 0;
}
