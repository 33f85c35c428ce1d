/* float_mode BUNDLE: a caller that rounds otherwise, flushes denormals or traps. Everything gives the bits of a caller
 * that does not, and leaves the caller's own mode as it was. Prints the number of modes. */
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "tvm_flow_decoder.h"

enum { MOST = 4096 };
static float noise[MOST], text[MOST], latents[2][MOST], frames[2][MOST];
static tvm_flow_description d;

static unsigned mode(void) {
#if defined(__SSE__)
  return _mm_getcsr() & ~0x3fu; /* without the flags of what happened */
#else
  return (unsigned)fegetround();
#endif
}

static unsigned ieee; /* mode of a program that set none */
static int same_mode(void *user, uint32_t done, uint32_t steps) { /* in a callback */
  return (void)user, (void)done, (void)steps, mode() != ieee;
}

static int run(const char *bundle, float *out, float *video) {
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 3};
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  if (tvm_flow_open(bundle, &options, &flow, NULL)) return 1;
  tvm_flow_describe(flow, &d);
  tvm_flow_gaussian(7, 0, noise, d.latent_floats);
  noise[0] = 1e-39f; /* a denormal */
  const tvm_flow_prompt prompt = {text, text + MOST / 2};
  const tvm_flow_request request = {.noise = noise, .cond = prompt, .uncond = prompt};
  int failed = tvm_flow_generate(flow, &request, out, same_mode, NULL, NULL) || tvm_flow_verify(flow, NULL);
  failed |= tvm_flow_velocity(flow, 0, 0, noise, &prompt, video, NULL) || tvm_flow_close(flow);
  if (failed || tvm_flow_decoder_open(bundle, &options, &decoder, NULL)) return 2;
  failed = tvm_flow_decode(decoder, out, video, NULL) || tvm_flow_decoder_verify(decoder, NULL);
  return failed | (int)tvm_flow_decoder_close(decoder);
}

int main(int argc, char **argv) {
  const int roundings[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  int modes = 0;
  if (argc != 2) return 2;
  for (int i = 0; i < MOST / 2; i++) text[i] = (float)i / 64;
  ieee = mode();
  if (run(argv[1], latents[0], frames[0])) return 3;
  for (size_t i = 0; i < sizeof roundings / sizeof *roundings + 2; i++, modes++) {
    if (i < sizeof roundings / sizeof *roundings) fesetround(roundings[i]);
#if defined(__SSE__)
    else if (i % 2) _mm_setcsr(0x9fc0u); /* denormals are zero, in and out */
    else _mm_setcsr(0x0f80u);            /* a lost digit traps */
#endif
    const unsigned before = mode();
    int failed = run(argv[1], latents[1], frames[1]);
    const unsigned after = mode();
    fesetenv(FE_DFL_ENV);
    if (failed || before != after) return fprintf(stderr, "mode %zu: %d, %x, then %x\n", i, failed, before, after), 4;
    if (memcmp(latents[0], latents[1], sizeof *latents) || memcmp(frames[0], frames[1], sizeof *frames)) return 5;
  }
  printf("%d\n", modes);
  return 0;
}
