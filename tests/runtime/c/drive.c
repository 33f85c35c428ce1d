/* Uses the whole API of a bundle, for the sanitizers: drive BUNDLE THREADS HANDLES. Exits 0 when all answers are right. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST_ERROR error.message
#include "expect.h"
#include "tvm_flow_trace.h"

#ifdef LINKED /* the toy group is part of this program */
#include "tvm_flow_library.h"
static const tvm_flow_linked linked[] = {{"group", NULL}, {"group0", &tvm_flow_library}};
enum { NUM_LINKED = 2 };
#else
static const tvm_flow_linked *const linked = NULL;
enum { NUM_LINKED = 0 };
#endif

enum { MAX_HANDLES = 4, ROUNDS = 10 };

static const char *bundle;
static uint32_t threads;
/* All handles close together: a library that is unloaded and mapped again in between looks like a race to
 * ThreadSanitizer, which does not see the loader's lock. */
static pthread_barrier_t all_done;

static int stop_at_second(void *user, uint32_t done, uint32_t steps) {
  *(uint32_t *)user = done;
  return done == 2 && steps > 2;
}

static int count_calls(void *user, const tvm_flow_kernel_call *call) {
  *(uint32_t *)user += 1;
  return call->num_args == 0 || call->args[call->num_args - 1].data == NULL;
}

static int stop_at_once(void *user, const tvm_flow_kernel_call *call) { return user == NULL && call->call == 0; }

static float *ones(uint64_t count) {
  float *values = malloc(count * sizeof *values);
  for (uint64_t i = 0; i < count; i++) values[i] = 1.0f;
  return values;
}

/* Draws what the runtime would for the seed 5, and counts. */
static int draw_five(void *user, uint32_t step, float *noise, uint64_t count) {
  *(uint32_t *)user += 1;
  tvm_flow_gaussian(5, (uint64_t)step + 1, noise, count);
  return 0;
}

static int draw_nothing(void *user, uint32_t step, float *noise, uint64_t count) {
  return user == NULL && step == 0 && noise != NULL && count > 0;
}

static void use_noise(tvm_flow *flow, const tvm_flow_description *d, const tvm_flow_request *request) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  size_t bytes = (size_t)d->latent_floats * sizeof(float);
  float *drawn = malloc(bytes), *seeded = malloc(bytes);
  uint32_t draws = 0, expected = 0;
  for (uint32_t i = 0; i < d->steps; i++) expected += d->updates[i].sigma > 0;
  tvm_flow_request own = *request, seed = *request;
  own.draw = draw_five, own.draw_user = &draws, seed.seed = 5;
  EXPECT(tvm_flow_generate(flow, &own, drawn, NULL, NULL, &error) == TVM_FLOW_OK && draws == expected);
  EXPECT(tvm_flow_generate(flow, &seed, seeded, NULL, NULL, &error) == TVM_FLOW_OK);
  EXPECT(memcmp(drawn, seeded, bytes) == 0);
  own.draw = draw_nothing, own.draw_user = NULL;
  tvm_flow_status stopped = expected ? TVM_FLOW_CANCELLED : TVM_FLOW_OK;
  EXPECT(tvm_flow_generate(flow, &own, drawn, NULL, NULL, &error) == stopped);
  EXPECT(!expected || memcmp(drawn, seeded, bytes) == 0);
  free(drawn), free(seeded);
}

static void use(tvm_flow *flow, const tvm_flow_description *d) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  float *z = ones(d->latent_floats), *tokens = ones((uint64_t)d->text_tokens * d->text_channels);
  float *mask = calloc(d->text_tokens, sizeof *mask), *out = calloc(d->output_floats, sizeof *out);
  tvm_flow_prompt prompt = {tokens, mask};
  tvm_flow_request request = {.noise = z, .cond = prompt, .uncond = prompt};
  uint32_t done = 0, calls = 0;
  EXPECT(tvm_flow_generate(flow, &request, out, stop_at_second, &done, &error) == TVM_FLOW_CANCELLED && done == 2);
  EXPECT(out[0] == 0.0f);
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_OK);
  /* In place: latents may be the noise. */
  EXPECT(tvm_flow_generate(flow, &request, z, NULL, NULL, NULL) == TVM_FLOW_OK);
  EXPECT(memcmp(z, out, d->latent_floats * sizeof *z) == 0);
  tvm_flow_set_trace(flow, count_calls, &calls);
  EXPECT(tvm_flow_velocity(flow, d->steps - 1, 0, z, &prompt, out, &error) == TVM_FLOW_OK && calls == 3);
  tvm_flow_set_trace(flow, stop_at_once, NULL);
  EXPECT(tvm_flow_velocity(flow, 0, 0, z, &prompt, out, &error) == TVM_FLOW_CANCELLED);
  tvm_flow_set_trace(flow, NULL, NULL);
  EXPECT(tvm_flow_velocity(flow, d->steps, 0, z, &prompt, out, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_velocity(flow, 0, 0, NULL, &prompt, out, &error) == TVM_FLOW_INVALID_ARGUMENT);
  use_noise(flow, d, &request);
  request.uncond.mask = NULL;
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
  free(z), free(tokens), free(mask), free(out);
}

static void *run(void *unused) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow_options options = {sizeof options, threads, 0, NUM_LINKED, linked};
  tvm_flow_description description;
  tvm_flow *flow;
  EXPECT(tvm_flow_open(bundle, &options, &flow, &error) == TVM_FLOW_OK);
  tvm_flow_describe(flow, &description);
  EXPECT(threads == 0 || description.threads == threads);
  for (int i = 0; i < ROUNDS; i++) EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_OK);
  use(flow, &description);
  EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_OK);
  tvm_flow *late; /* opened while other threads run the same libraries */
  EXPECT(tvm_flow_open(bundle, &options, &late, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_verify(late, &error) == TVM_FLOW_OK);
  tvm_flow_close(late);
  pthread_barrier_wait(&all_done);
  tvm_flow_close(flow);
  return unused;
}

static void misuse(void) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow *flow;
  tvm_flow_options short_options = {2, 0, 0, 0, NULL}, long_options = {400, 0, 0, 0, NULL};
  tvm_flow_options old_options = {4, 99, 99, 99, NULL}, no_table = {sizeof no_table, 0, 0, 1, NULL};
  EXPECT(tvm_flow_open(NULL, NULL, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_open(bundle, NULL, NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_open(bundle, &short_options, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_open(bundle, &long_options, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_open(bundle, &no_table, &flow, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_open("/nonexistent", NULL, &flow, &error) == TVM_FLOW_FILE_ERROR && flow == NULL);
  EXPECT(tvm_flow_open("/nonexistent", NULL, &flow, NULL) == TVM_FLOW_FILE_ERROR);
  /* A static program has no loader: what is not linked in cannot be opened. */
  tvm_flow_status loaded = NUM_LINKED ? TVM_FLOW_BAD_LIBRARY : TVM_FLOW_OK;
  EXPECT(tvm_flow_open(bundle, &old_options, &flow, &error) == loaded);
  tvm_flow_close(flow);
  tvm_flow_close(NULL);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  bundle = argv[1];
  threads = (uint32_t)atoi(argv[2]);
  int handles = atoi(argv[3]);
  pthread_t workers[MAX_HANDLES];
  if (handles < 1 || handles > MAX_HANDLES) return 2;
  pthread_barrier_init(&all_done, NULL, (unsigned)handles);
  for (int i = 0; i < handles; i++)
    if (pthread_create(&workers[i], NULL, run, NULL) != 0) return 3;
  for (int i = 0; i < handles; i++) pthread_join(workers[i], NULL);
  misuse();
  puts("ok");
  return 0;
}
