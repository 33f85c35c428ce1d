/* Uses the whole API of a decoder, for the sanitizers: drive_decoder BUNDLE THREADS. Exits 0 when all answers are right.
 * With FAILING_ALLOCATIONS (linked with --wrap) it opens and verifies with the first allocation failing, then the
 * second, and so on until none does: each time an error and nothing held. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAST_ERROR error.message
#include "expect.h"
#include "tvm_flow_decoder.h"

#ifdef FAILING_ALLOCATIONS
static long left;
static int refuse(void) { return left-- == 0; }

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes) { return refuse() ? NULL : __real_malloc(bytes); }
void *__wrap_calloc(size_t count, size_t bytes) { return refuse() ? NULL : __real_calloc(count, bytes); }
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes) {
  return refuse() ? 12 : __real_posix_memalign(memory, alignment, bytes);
}
char *__wrap_strdup(const char *text) { return refuse() ? NULL : __real_strdup(text); }

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  for (long failures = 0;; failures++) {
    tvm_flow_error error = {TVM_FLOW_OK, ""};
    const tvm_flow_options options = {sizeof options, 3};
    tvm_flow_decoder *decoder;
    left = failures;
    tvm_flow_status status = tvm_flow_decoder_open(argv[1], &options, &decoder, &error);
    EXPECT(!status == (decoder != NULL));
    if (!status) status = tvm_flow_decoder_verify(decoder, &error);
    left = -1;
    tvm_flow_decoder_close(decoder);
    if (!status) return printf("%ld\n", failures) < 0;
    EXPECT(status == TVM_FLOW_NO_MEMORY || status == TVM_FLOW_NO_THREAD || status == TVM_FLOW_FILE_ERROR);
    EXPECT(error.status == status && strlen(error.message) > 10);
  }
}
#else
static int count_calls(void *user, const tvm_flow_kernel_call *call) {
  *(uint32_t *)user += 1;
  return call->num_args == 0;
}

static int stop(void *user, const tvm_flow_kernel_call *call) { return user == NULL && call->step == 0; }

static void use(tvm_flow_decoder *decoder) {
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  tvm_flow_decoder_description d;
  tvm_flow_decoder_describe(decoder, &d);
  float *latents = calloc(d.latent_floats, sizeof *latents), *frames = malloc(d.frame_values * sizeof *frames);
  uint8_t *bytes = malloc(d.frame_values);
  uint32_t calls = 0;
  EXPECT((uint64_t)d.frames * d.height * d.width * 3 == d.frame_values);
  tvm_flow_decoder_set_trace(decoder, count_calls, &calls);
  EXPECT(tvm_flow_decode(decoder, latents, frames, &error) == TVM_FLOW_OK);
  EXPECT(calls == d.latent_shape[1] / d.chunk && frames[d.frame_values - 1] == 0.0f);
  tvm_flow_decoder_set_trace(decoder, stop, NULL);
  EXPECT(tvm_flow_decode(decoder, latents, frames, NULL) == TVM_FLOW_CANCELLED);
  tvm_flow_decoder_set_trace(decoder, NULL, NULL);
  EXPECT(tvm_flow_decode_rgb8(decoder, latents, bytes, &error) == TVM_FLOW_OK && bytes[d.frame_values - 1] == 0);
  EXPECT(tvm_flow_decode(decoder, NULL, frames, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decode_rgb8(decoder, latents, NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decoder_verify(decoder, &error) == TVM_FLOW_OK);
  free(latents), free(frames), free(bytes);
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  tvm_flow_error error = {TVM_FLOW_OK, ""};
  const tvm_flow_options options = {sizeof options, (uint32_t)atoi(argv[2])}, wrong = {2, 0};
  tvm_flow_decoder *decoder;
  EXPECT(tvm_flow_decoder_open(NULL, NULL, &decoder, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decoder_open(argv[1], NULL, NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decoder_open(argv[1], &wrong, &decoder, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decoder_open("/nonexistent", NULL, &decoder, &error) == TVM_FLOW_FILE_ERROR && decoder == NULL);
  EXPECT(tvm_flow_decoder_verify(NULL, &error) == TVM_FLOW_INVALID_ARGUMENT);
  EXPECT(tvm_flow_decoder_open(argv[1], &options, &decoder, &error) == TVM_FLOW_OK);
  for (int i = 0; i < 3; i++) use(decoder);
  tvm_flow_decoder_close(decoder);
  tvm_flow_decoder_close(NULL);
  return puts("ok") < 0;
}
#endif
