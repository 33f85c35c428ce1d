/* Cancelling from a callback, another thread and a signal handler: cancel_check BUNDLE, which has a decoder of two
 * chunks or more. What is cancelled stops before its next kernel and writes nothing; the handle is as good as new. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define LAST_ERROR error.message
#include "expect.h"
#include "tvm_flow_control.h"

enum { LATENT = 32, TEXT = 12, TOKENS = 3, FRAMES = 4096 };

static tvm_flow_error error = {TVM_FLOW_OK, ""};
static tvm_flow *flow;
static tvm_flow_decoder *decoder;
static float noise[LATENT], tokens[TEXT], mask[TOKENS];
static const tvm_flow_prompt prompt = {tokens, mask};
static const tvm_flow_request request = {.noise = noise, .cond = {tokens, mask}, .uncond = {tokens, mask}};
static int calls, stop_at, by_signal;

static int cancel_at(void *user, const tvm_flow_kernel_call *call) {
  (void)user, (void)call;
  if (++calls == stop_at && by_signal) raise(SIGUSR1);
  else if (calls == stop_at) tvm_flow_cancel(flow);
  return 0;
}

static void on_signal(int number) {
  (void)number;
  tvm_flow_cancel(flow);
}

static int cancel_after_first(void *user, uint32_t done, uint32_t total) {
  (void)total;
  *(uint32_t *)user = done;
  tvm_flow_cancel(flow);
  tvm_flow_decoder_cancel(decoder);
  return 0;
}

static void *cancel_until(void *stop) {
  while (!atomic_load((atomic_int *)stop)) tvm_flow_cancel(flow);
  return NULL;
}

static void between_kernels(void) {
  float out[LATENT] = {0}, zeros[LATENT] = {0};
  EXPECT(tvm_flow_set_trace(flow, cancel_at, NULL) == TVM_FLOW_OK);
  for (stop_at = 1; stop_at <= 3; stop_at++)
    for (by_signal = 0; by_signal < 2; by_signal++) {
      calls = 0;
      tvm_flow_status expected = stop_at < 3 ? TVM_FLOW_CANCELLED : TVM_FLOW_OK; /* after the last: too late */
      EXPECT(tvm_flow_velocity(flow, 0, 0, noise, &prompt, out, &error) == expected && calls == stop_at);
      EXPECT((memcmp(out, zeros, sizeof out) == 0) == (expected == TVM_FLOW_CANCELLED));
    }
  EXPECT(strcmp(error.message, "step 0, branch 0: cancelled before call 2") == 0);
  EXPECT(tvm_flow_set_trace(flow, NULL, NULL) == TVM_FLOW_OK);
}

static void from_a_thread(const float *right) {
  float out[LATENT];
  atomic_int stop = 0;
  pthread_t thread;
  tvm_flow_status s = TVM_FLOW_OK;
  EXPECT(pthread_create(&thread, NULL, cancel_until, &stop) == 0);
  while (s == TVM_FLOW_OK) s = tvm_flow_generate(flow, &request, out, NULL, NULL, &error);
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  EXPECT(s == TVM_FLOW_CANCELLED);
  tvm_flow_cancel(flow); /* nothing runs: forgotten */
  EXPECT(tvm_flow_generate(flow, &request, out, NULL, NULL, &error) == TVM_FLOW_OK);
  EXPECT(memcmp(out, right, sizeof out) == 0);
}

static void chunks(void) {
  static float frames[FRAMES], again[FRAMES];
  static uint8_t bytes[FRAMES], bytes_again[FRAMES];
  uint32_t done = 0;
  tvm_flow_decoder_description d;
  tvm_flow_decoder_describe(decoder, &d);
  EXPECT(d.frame_values <= FRAMES && d.latent_shape[1] / d.chunk >= 2);
  tvm_flow_decode_request r = {
      .struct_bytes = sizeof r, .latents = noise, .frames = frames, .rgb8 = bytes, .progress = cancel_after_first,
      .user = &done};
  EXPECT(tvm_flow_decode_with(decoder, &r, &error) == TVM_FLOW_CANCELLED && done == 1);
  tvm_flow_decoder_cancel(decoder);
  r.progress = NULL;
  EXPECT(tvm_flow_decode_with(decoder, &r, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_decode(decoder, noise, again, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_decode_rgb8(decoder, noise, bytes_again, &error) == TVM_FLOW_OK);
  EXPECT(memcmp(frames, again, sizeof frames) == 0 && memcmp(bytes, bytes_again, sizeof bytes) == 0);
  r.frames = NULL, r.rgb8 = NULL;
  EXPECT(tvm_flow_decode_with(decoder, &r, &error) == TVM_FLOW_INVALID_ARGUMENT);
  r.struct_bytes = 400;
  EXPECT(tvm_flow_decode_with(decoder, &r, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decode_with(decoder, NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
}

int main(int argc, char **argv) {
  const tvm_flow_options options = {.struct_bytes = sizeof options, .threads = 2};
  float right[LATENT], out[LATENT];
  uint32_t done = 0;
  if (argc != 2 || signal(SIGUSR1, on_signal) == SIG_ERR) return 2;
  EXPECT(tvm_flow_open(argv[1], &options, &flow, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_decoder_open(argv[1], &options, &decoder, &error) == TVM_FLOW_OK);
  tvm_flow_gaussian(1, 0, noise, LATENT);
  EXPECT(tvm_flow_generate(flow, &request, right, NULL, NULL, &error) == TVM_FLOW_OK);
  EXPECT(tvm_flow_generate(flow, &request, out, cancel_after_first, &done, &error) == TVM_FLOW_CANCELLED && done == 1);
  between_kernels();
  from_a_thread(right);
  chunks();
  tvm_flow_cancel(NULL), tvm_flow_decoder_cancel(NULL);
  EXPECT(tvm_flow_close(flow) == TVM_FLOW_OK && tvm_flow_decoder_close(decoder) == TVM_FLOW_OK);
  return puts("ok") < 0;
}
