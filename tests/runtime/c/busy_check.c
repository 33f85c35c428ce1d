/* One handle asked for two things at once: busy_check BUNDLE. The second is refused, and neither spoils the other. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST_ERROR error.message
#include "expect.h"
#include "tvm_flow_decoder.h"

enum { LATENT = 32, TEXT = 12, TOKENS = 3, ROUNDS = 200 };

static float text[TEXT], mask[TOKENS];
static const tvm_flow_prompt prompt = {text, mask};

typedef struct {
  tvm_flow *flow;
  tvm_flow_request request;
  float noise[LATENT], latents[LATENT], expected[LATENT];
  tvm_flow_status status;
  int counts[2]; /* of OK and of BUSY */
} call;

/* Everything that is forbidden here answers BUSY; describe is not. */
static int from_a_callback(void *user, uint32_t done, uint32_t steps) {
  tvm_flow *flow = user;
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow_description d;
  float z[LATENT] = {0}, out[LATENT] = {7};
  const tvm_flow_request request = {.noise = z, .cond = prompt, .uncond = prompt};
  EXPECT(tvm_flow_velocity(flow, 0, 0, z, &prompt, out, &error) == TVM_FLOW_BUSY);
  EXPECT(strncmp(error.message, "tvm_flow_velocity: expected a handle that runs nothing", 40) == 0);
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_BUSY && out[0] == 7);
  EXPECT(tvm_flow_verify(flow, &error) == TVM_FLOW_BUSY && error.status == TVM_FLOW_BUSY);
  EXPECT(tvm_flow_set_trace(flow, NULL, NULL) == TVM_FLOW_BUSY);
  EXPECT(tvm_flow_close(flow) == TVM_FLOW_BUSY);
  tvm_flow_describe(flow, &d);
  EXPECT(d.steps == steps && done <= steps);
  return 0;
}

static int trace_from_a_callback(void *user, const tvm_flow_kernel_call *seen) {
  return from_a_callback(user, seen->step, 4);
}

static int frames_from_a_callback(void *user, const tvm_flow_kernel_call *seen) {
  tvm_flow_decoder *decoder = user;
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  float latents[LATENT] = {0}, *frames = calloc(1 << 12, sizeof *frames);
  EXPECT(seen->call == 0 && frames);
  EXPECT(tvm_flow_decode(decoder, latents, frames, &error) == TVM_FLOW_BUSY);
  EXPECT(strncmp(error.message, "tvm_flow_decode: ", 17) == 0);
  EXPECT(tvm_flow_decode_rgb8(decoder, latents, (uint8_t *)frames, &error) == TVM_FLOW_BUSY);
  EXPECT(tvm_flow_decoder_verify(decoder, &error) == TVM_FLOW_BUSY);
  EXPECT(tvm_flow_decoder_set_trace(decoder, NULL, NULL) == TVM_FLOW_BUSY);
  EXPECT(tvm_flow_decoder_close(decoder) == TVM_FLOW_BUSY);
  free(frames);
  return 0;
}

static void *generate(void *user) {
  call *c = user;
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  while (c->counts[0] < ROUNDS) {
    c->status = tvm_flow_generate(c->flow, &c->request, c->latents, NULL, NULL, &error);
    EXPECT(c->status == TVM_FLOW_OK || c->status == TVM_FLOW_BUSY);
    if (c->status == TVM_FLOW_OK) EXPECT(memcmp(c->latents, c->expected, sizeof c->expected) == 0);
    c->counts[c->status == TVM_FLOW_BUSY]++;
  }
  return NULL;
}

static void two_threads(tvm_flow *flow) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  static call calls[2];
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    call *c = &calls[i];
    c->flow = flow;
    tvm_flow_gaussian((uint64_t)i, 0, c->noise, LATENT);
    c->request = (tvm_flow_request){.noise = c->noise, .cond = prompt, .uncond = prompt};
    EXPECT(tvm_flow_generate(flow, &c->request, c->expected, NULL, NULL, &error) == TVM_FLOW_OK);
  }
  for (int i = 0; i < 2; i++) EXPECT(pthread_create(&threads[i], NULL, generate, &calls[i]) == 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  EXPECT(calls[0].counts[0] + calls[1].counts[0] == 2 * ROUNDS);
}

int main(int argc, char **argv) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 2};
  tvm_flow *flow;
  tvm_flow_decoder *decoder;
  if (argc != 2) return 2;
  EXPECT(tvm_flow_open(argv[1], &options, &flow, &error) == TVM_FLOW_OK);
  call c = {.request = {.noise = c.noise, .cond = prompt, .uncond = prompt}};
  EXPECT(tvm_flow_generate(flow, &c.request, c.expected, NULL, NULL, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_generate(flow, &c.request, c.latents, from_a_callback, flow, &error) == TVM_FLOW_OK);
  EXPECT(memcmp(c.latents, c.expected, sizeof c.latents) == 0);
  EXPECT(tvm_flow_set_trace(flow, trace_from_a_callback, flow) == TVM_FLOW_OK);
  EXPECT(tvm_flow_generate(flow, &c.request, c.latents, NULL, NULL, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_set_trace(flow, NULL, NULL) == TVM_FLOW_OK);
  EXPECT(memcmp(c.latents, c.expected, sizeof c.latents) == 0);
  two_threads(flow);
  EXPECT(tvm_flow_close(flow) == TVM_FLOW_OK);

  EXPECT(tvm_flow_decoder_open(argv[1], &options, &decoder, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_decoder_set_trace(decoder, frames_from_a_callback, decoder) == TVM_FLOW_OK);
  EXPECT(tvm_flow_decoder_verify(decoder, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_decoder_close(decoder) == TVM_FLOW_OK);
  return puts("ok") < 0;
}
