/* Does this machine compute what the bundle's golden output says? check_bundle BUNDLE [THREADS]
 *
 * Prints what the bundle holds and exits 0, or says what is wrong and exits 1. With -DSTATIC_GROUPS the groups are part
 * of the program, else they are loaded, and devices too: each libtvm_flow_device_NAME.so beside the program. */
#define _DEFAULT_SOURCE /* bring.h */
#include <stdio.h>
#include <stdlib.h>

#include "bring.h"
#include "tvm_flow_decoder.h"

/* What a handle takes; verifying takes one latent more, and steps that draw noise another. */
static void print_memory(const tvm_flow_description *d) {
  unsigned long long latents = sizeof(float) * (2ull * d->latent_floats + 2ull * d->output_floats);
  for (uint32_t i = 0; i < d->steps; i++)
    if (d->updates[i].sigma > 0) {
      latents += sizeof(float) * d->latent_floats;
      break;
    }
  const struct {
    const char *name;
    unsigned long long bytes;
  } rows[] = {{"arena", d->arena_bytes},
              {"constants of a step", d->step_bytes},
              {"prompt, all branches", d->prompt_bytes},
              {"latents and predictions", latents}};
  unsigned long long all = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) all += rows[i].bytes;
  printf("weights %llu bytes, mapped; memory beside them %llu bytes:\n", (unsigned long long)d->weights_bytes, all);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) printf("  %14llu %s\n", rows[i].bytes, rows[i].name);
}

static int has_decoder(const char *bundle) {
  char path[4096];
  snprintf(path, sizeof path, "%s/decoder.bin", bundle);
  FILE *file = fopen(path, "rb");
  return file ? fclose(file), 1 : 0;
}

static int wrong_frames(const char *bundle, const tvm_flow_options *options, tvm_flow_error *error) {
  tvm_flow_decoder *decoder;
  if (tvm_flow_decoder_open(bundle, options, &decoder, error)) return 1;
  int wrong = tvm_flow_decoder_verify(decoder, error) != TVM_FLOW_OK;
  return tvm_flow_decoder_close(decoder), wrong;
}

int main(int argc, char **argv) {
  tvm_flow *flow;
  tvm_flow_error error;
  tvm_flow_options options = {.struct_bytes = sizeof options};
  tvm_flow_description d;
  if (argc < 2 || argc > 3) return fputs("usage: check_bundle BUNDLE [THREADS]\n", stderr), 2;
  if (argc == 3) options.threads = (uint32_t)strtoul(argv[2], NULL, 10);
  bring(&options);
  if (tvm_flow_open(argv[1], &options, &flow, &error)) return fprintf(stderr, "%s\n", error.message), 1;
  tvm_flow_describe(flow, &d);
  printf("%u steps, %u branches, %u groups, %u threads\n", d.steps, d.branches, d.groups, d.threads);
  print_memory(&d);
  int wrong = tvm_flow_verify(flow, &error) != TVM_FLOW_OK;
  tvm_flow_close(flow);
  if (!wrong) puts("the golden output, bit for bit");
  if (!wrong && has_decoder(argv[1]) && !(wrong = wrong_frames(argv[1], &options, &error)))
    puts("the golden frames, bit for bit");
  if (wrong) fprintf(stderr, "%s\n", error.message);
  return wrong;
}
