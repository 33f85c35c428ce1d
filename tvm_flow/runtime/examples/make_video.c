/* A video from a bundle: make_video BUNDLE FOLDER [SEED]. Writes frame000.pgm, ... into FOLDER.
 *
 * The prompt is the bundle's own, in golden.bin: float32 noise, then tokens and mask of both branches. With SEED the
 * noise is new, without it that of golden.bin. -DSTATIC_GROUPS: the groups are part of this program. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tvm_flow.h"
#ifdef STATIC_GROUPS
#include "tvm_flow_groups.h"
#endif

/* Here goes your decoder: a frame of latents is float32 [channels, h, w], this one shows its first channel. */
static int write_frame(const char *folder, unsigned frame, const float *plane, unsigned h, unsigned w) {
  char path[4096];
  snprintf(path, sizeof path, "%s/frame%03u.pgm", folder, frame);
  FILE *file = fopen(path, "wb");
  if (!file) return perror(path), 1;
  fprintf(file, "P5 %u %u 255\n", w, h);
  for (size_t i = 0; i < (size_t)h * w; i++) fputc((int)fminf(fmaxf(127.5f + 42.5f * plane[i], 0), 255), file);
  return fclose(file) ? perror(path), 1 : 0;
}

static int show(void *user, uint32_t done, uint32_t steps) {
  (void)user;
  return fprintf(stderr, "step %u of %u\n", done, steps) < 0; /* non-zero cancels */
}

static int fail(const char *message) { return fprintf(stderr, "%s\n", message), 1; }

int main(int argc, char **argv) {
  tvm_flow *flow;
  tvm_flow_error error;
  tvm_flow_description d;
  tvm_flow_options options = {.struct_bytes = sizeof options};
  char path[4096];
#ifdef STATIC_GROUPS
  options.num_linked = tvm_flow_num_linked_groups, options.linked = tvm_flow_linked_groups;
#endif
  if (argc < 3) return fail("usage: make_video BUNDLE FOLDER [SEED]");
  if (tvm_flow_open(argv[1], &options, &flow, &error)) return fail(error.message);
  tvm_flow_describe(flow, &d);
  const size_t n = d.latent_floats, text = (size_t)d.text_tokens * d.text_channels, prompt = text + d.text_tokens;
  const size_t all = n + 2 * prompt;
  float *noise = malloc(all * sizeof *noise), *cond = noise + n, *uncond = cond + prompt;
  snprintf(path, sizeof path, "%s/golden.bin", argv[1]);
  FILE *file = noise ? fopen(path, "rb") : NULL;
  if (!file || fread(noise, sizeof *noise, all, file) != all) return free(noise), fail("cannot read golden.bin");
  fclose(file);
  tvm_flow_request request = {.noise = noise, .cond = {cond, cond + text}, .uncond = {uncond, uncond + text}};
  if (argc > 3) tvm_flow_gaussian(request.seed = strtoull(argv[3], NULL, 10), 0, noise, n);
  int failed = tvm_flow_generate(flow, &request, noise, show, NULL, &error) ? fail(error.message) : 0;
  const uint32_t *shape = d.latent_shape; /* channels, frames, height, width */
  for (uint32_t t = 0; !failed && t < shape[1]; t++)
    failed = write_frame(argv[2], t, noise + (size_t)t * shape[2] * shape[3], shape[2], shape[3]);
  return free(noise), tvm_flow_close(flow), failed;
}
