/* make_video BUNDLE PROMPT FOLDER [SEED]: a video as FOLDER/frame000.ppm, ... PROMPT is a file of embed --for-bundle.
 * Ctrl-C stops after the kernel that runs. -DSTATIC_GROUPS: the groups are in this program. */
#define _DEFAULT_SOURCE /* signal() lets a write go on; bring.h */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include "tvm_flow_control.h"
#include "tvm_flow_prompt.h"
#include "bring.h"

static tvm_flow *volatile denoises; /* what the handler cancels */
static tvm_flow_decoder *volatile decodes;
static volatile sig_atomic_t stopped; /* between two calls a cancel is forgotten */
static void stop(int number) { stopped = number, tvm_flow_cancel(denoises), tvm_flow_decoder_cancel(decodes); }
static int look(void *user, uint32_t done, uint32_t all) { return (void)user, (void)done, (void)all, stopped; }
static int fail(const char *message) { return fprintf(stderr, "%s\n", message), 1; }
static int show(void *user, uint32_t done, uint32_t steps) {
  return (void)user, fprintf(stderr, "step %u of %u\n", done, steps), stopped; /* non-zero cancels */
}
static int write_frame(const char *folder, unsigned frame, const uint8_t *rgb, unsigned height, unsigned width) {
  char path[4096];
  snprintf(path, sizeof path, "%s/frame%03u.ppm", folder, frame);
  FILE *file = fopen(path, "wb");
  if (!file || fprintf(file, "P6 %u %u 255\n", width, height) < 0) return perror(path), 1;
  return fwrite(rgb, 3ull * width, height, file) != height || fclose(file) ? perror(path), 1 : 0;
}
int main(int argc, char **argv) {
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  tvm_flow_error e;
  tvm_flow_description d;
  tvm_flow_decoder_description video;
  tvm_flow_request request = {0};
  tvm_flow_options options = {.struct_bytes = sizeof options};
  bring(&options);
  if (argc < 4) return fail("usage: make_video BUNDLE PROMPT FOLDER [SEED]");
  signal(SIGINT, stop);
  if (tvm_flow_open(argv[1], &options, &flow, &e) || tvm_flow_prompt_open(argv[2], flow, &request.cond, &e) ||
      tvm_flow_null_prompt(flow, &request.cond, &request.uncond, &e))
    return fail(e.message);
  tvm_flow_describe(denoises = flow, &d);
  float *latents = malloc(d.latent_floats * sizeof *latents);
  request.seed = argc > 4 ? strtoull(argv[4], NULL, 10) : 0, request.noise = latents;
  if (latents) tvm_flow_gaussian(request.seed, 0, latents, d.latent_floats);
  if (tvm_flow_generate(flow, &request, latents, show, NULL, &e)) return fail(e.message);
  denoises = NULL, tvm_flow_close(flow); /* its memory is free for the decoder */
  if (tvm_flow_decoder_open(argv[1], &options, &decoder, &e)) return fail(e.message);
  tvm_flow_decoder_describe(decodes = decoder, &video);
  uint8_t *frames = malloc(video.frame_values);
  tvm_flow_decode_request decode = {sizeof decode, latents, NULL, frames, look, NULL};
  int failed = tvm_flow_decode_with(decoder, &decode, &e) ? fail(e.message) : 0;
  for (uint32_t t = 0; !failed && t < video.frames; t++)
    failed = write_frame(argv[3], t, frames + 3ull * t * video.height * video.width, video.height, video.width);
  tvm_flow_prompt_close(&request.cond), tvm_flow_prompt_close(&request.uncond);
  return free(frames), free(latents), decodes = NULL, tvm_flow_decoder_close(decoder), failed;
}
