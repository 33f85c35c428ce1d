/* memory_check BUNDLE: what a handle takes is what the plan said, and nothing after that. Linked with --wrap, so that
 * calls of the runtime for memory of the system come here. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tvm_flow_control.h"
#include "tvm_flow_memory.h"

enum { MOST = 4096, RUNS = 1000, WORKSPACE = 128 /* of the toy's kernels, while they run */ };
static float noise[MOST], text[MOST], out[MOST], seen[MOST];
static atomic_long asked; /* of the system */
static atomic_ullong held, most;
static tvm_flow_error error;

#define EXPECT(condition) \
  if (!(condition)) return fprintf(stderr, "line %d: %s: %s\n", __LINE__, #condition, error.message), 1

#define COUNTED(result, name, parameters, arguments) \
  result __real_##name parameters;                   \
  result __wrap_##name parameters { return asked++, __real_##name arguments; }
COUNTED(void *, malloc, (size_t bytes), (bytes))
COUNTED(void *, calloc, (size_t count, size_t bytes), (count, bytes))
COUNTED(void *, realloc, (void *memory, size_t bytes), (memory, bytes))
COUNTED(int, posix_memalign, (void **memory, size_t alignment, size_t bytes), (memory, alignment, bytes))
COUNTED(void *, mmap, (void *at, size_t bytes, int protection, int flags, int fd, off_t offset),
        (at, bytes, protection, flags, fd, offset))

static void *lend(void *user, uint64_t bytes, uint64_t alignment) { /* the size before the block */
  void *memory = NULL;
  (void)user;
  if (__real_posix_memalign(&memory, 4096, bytes + 4096) || alignment > 4096) return NULL;
  memcpy(memory, &bytes, sizeof bytes);
  held += bytes;
  if (held > most) most = held + 0;
  return (char *)memory + 4096;
}

static void take_back(void *user, void *memory) {
  uint64_t bytes;
  (void)user;
  memcpy(&bytes, (char *)memory - 4096, sizeof bytes);
  held -= bytes;
  free((char *)memory - 4096);
}

static tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 3, .allocate = lend, .release = take_back};
static const tvm_flow_prompt prompt = {text, text + MOST / 2};

static int look(void *user, uint32_t done, uint32_t steps, const float *latents, uint64_t count) {
  uint32_t *looks = user;
  memcpy(seen, latents, count * sizeof *latents);
  return ++*looks != done || done > steps || (noise[1] > 99 && done == 2);
}

static tvm_flow_request request = {
    .struct_bytes = sizeof request, .noise = noise, .cond = prompt, .uncond = prompt, .preview = look};

/* Kilobytes, without a buffer of the C library; statm is of a moment ago on each CPU. */
static long resident(void) {
  char words[256] = "";
  int file = open("/proc/self/smaps_rollup", O_RDONLY);
  if (read(file, words, sizeof words - 1) < 0 || close(file)) return -1;
  return atol(strstr(words, "Rss:") + 4);
}

static int steps_of(tvm_flow *flow, uint64_t latents) {
  uint32_t looks = 0;
  request.preview_user = &looks;
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_OK);
  EXPECT(looks > 1 && memcmp(seen, out, latents * sizeof *out) == 0);
  EXPECT(tvm_flow_velocity(flow, 0, 0, noise, &prompt, out, &error) == TVM_FLOW_OK);
  return 0;
}

/* The limit that is one byte too small for a sum of pools names the last of them, and takes no large one. */
static int limits(const char *bundle, const tvm_flow_memory *plan) {
  const struct {
    const char *name;
    uint64_t bytes;
  } pools[] = {{"tables,", plan->tables_bytes},   {"constants of a step,", plan->step_bytes}, {"latents,", plan->latent_bytes},
               {"prompts,", plan->prompt_bytes}, {"the arena,", plan->arena_bytes}};
  uint64_t sum = 0;
  tvm_flow *flow;
  for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
    options.memory_limit = (sum += pools[i].bytes) - 1;
    most = 0;
    EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_NO_MEMORY && !flow);
    EXPECT(strstr(error.message, "options.memory_limit: expected room for ") && strstr(error.message, pools[i].name));
    EXPECT(held == 0 && most < plan->total_bytes);
  }
  EXPECT(sum == plan->total_bytes && plan->device_bytes == 0);
  return 0;
}

static int denoiser(const char *bundle) {
  tvm_flow_memory plan;
  tvm_flow_description d;
  tvm_flow *flow;
  EXPECT(tvm_flow_plan(bundle, &options, &plan, &error) == TVM_FLOW_OK && held == 0);
  if (limits(bundle, &plan)) return 1;
  options.memory_limit = plan.total_bytes;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_OK);
  EXPECT(held == plan.total_bytes);
  tvm_flow_describe(flow, &d);
  EXPECT(d.arena_bytes <= plan.arena_bytes && d.weights_bytes == plan.weights_bytes);
  asked = 0, most = 0;
  long before = 0, after = resident();
  for (int i = 0; i < RUNS * 5 && after != before; i++) { /* a worker that had no task yet will touch its stack */
    if (steps_of(flow, d.latent_floats)) return 1;
    if (i % RUNS == RUNS - 1) before = after, after = resident();
  }
  EXPECT(asked == 0 && held == plan.total_bytes && most <= plan.total_bytes + WORKSPACE);
  EXPECT(after == before);
  noise[1] = 100; /* asks look to stop at the second step */
  uint32_t looks = 0;
  request.preview_user = &looks;
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_CANCELLED && looks == 2);
  noise[1] = 0;
  memset(&text[MOST / 4], 1, 8);
  EXPECT(tvm_flow_trim(flow) == TVM_FLOW_OK && resident() <= before - (long)(plan.arena_bytes / 1024) + 64);
  EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_close(flow) == TVM_FLOW_OK && held == 0);
  options.memory_limit = 0;
  return 0;
}

static int decoder(const char *bundle) {
  tvm_flow_memory plan;
  tvm_flow_decoder *decoder;
  EXPECT(tvm_flow_decoder_plan(bundle, &options, &plan, &error) == TVM_FLOW_OK && held == 0);
  EXPECT(tvm_flow_decoder_open(bundle, &options, &decoder, &error) == TVM_FLOW_OK);
  EXPECT(held == plan.total_bytes);
  asked = 0, most = 0;
  for (int i = 0; i < RUNS; i++) EXPECT(tvm_flow_decode(decoder, noise, out, &error) == TVM_FLOW_OK);
  EXPECT(asked == 0 && most == 0);
  EXPECT(tvm_flow_decoder_trim(decoder) == TVM_FLOW_OK && tvm_flow_decoder_verify(decoder, &error) == TVM_FLOW_OK);
  options.memory_limit = plan.total_bytes - 1;
  EXPECT(tvm_flow_decoder_close(decoder) == TVM_FLOW_OK && held == 0);
  EXPECT(tvm_flow_decoder_open(bundle, &options, &decoder, &error) == TVM_FLOW_NO_MEMORY);
  options.memory_limit = 0;
  return 0;
}

static int colours(void) {
  const float latents[] = {-9, -1, 0, 1.5f, 0, 0, 0, 3}; /* 2 channels of 4 places */
  const float factors[] = {0, 1, 0.5f, 1, 0, 0, 0, 0, 1};
  const uint8_t plain[] = {0, 128, 128, 85, 128, 128, 128, 128, 128, 191, 255, 255};
  const uint8_t mixed[] = {128, 0, 255, 128, 0, 255, 128, 0, 255, 255, 255, 255};
  uint8_t rgb[12];
  tvm_flow_preview_rgb8(latents, 2, 4, NULL, rgb);
  EXPECT(memcmp(rgb, plain, sizeof rgb) == 0);
  tvm_flow_preview_rgb8(latents, 2, 4, factors, rgb);
  EXPECT(memcmp(rgb, mixed, sizeof rgb) == 0);
  return 0;
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  return denoiser(argv[1]) || decoder(argv[1]) || colours() || puts("ok") < 0;
}
