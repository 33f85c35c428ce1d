/* Runs a bundle's golden input in a static program with the libraries linked in: trace BUNDLE THREADS PART, where PART
 * is generate, or decode for the frames of the golden latents.
 *
 * Writes to stdout what it computes, as records in the byte order of the target (little endian):
 *
 *   uint32 kind, step, branch, call, tensors, name_bytes;  char name[name_bytes];  then each tensor:
 *   uint8 dtype_code, dtype_bits;  uint16 ndim;  uint32 0;  int64 shape[8], 0 past ndim;  the elements, row-major
 *
 *   kind 0  a kernel call: its name and arguments, the last one written by it
 *   kind 1  step `step` is done: no tensor
 *   kind 2  the end: the latents or frames, flat
 *
 * tvm_flow.check.emulator reads this. On failure the reason is on stderr and the exit code is 1.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tvm_flow_decoder.h"
#include "tvm_flow_groups.h"
#include "tvm_flow_library.h"
#include "tvm_flow_trace.h"

enum { KIND_CALL = 0, KIND_STEP = 1, KIND_RESULT = 2 };

static int failed(const char *message) {
  fprintf(stderr, "%s\n", message);
  return 1;
}

static int put(const void *data, size_t bytes) { return fwrite(data, 1, bytes, stdout) != bytes; }

static int put_header(uint32_t kind, uint32_t step, uint32_t branch, uint32_t call, uint32_t tensors,
                      const char *name) {
  const uint32_t bytes = (uint32_t)strlen(name), words[] = {kind, step, branch, call, tensors, bytes};
  return put(words, sizeof words) || put(name, bytes);
}

static int put_tensor(const tvm_flow_view *view) {
  struct {
    uint8_t code, bits;
    uint16_t ndim;
    uint32_t zero;
    int64_t shape[TVM_FLOW_MAX_DIMS];
  } head = {view->dtype_code, view->dtype_bits, (uint16_t)view->ndim, 0, {0}};
  size_t bytes = view->dtype_bits / 8u;
  for (int i = 0; i < view->ndim; i++) bytes *= (size_t)(head.shape[i] = view->shape[i]);
  return put(&head, sizeof head) || put(view->data, bytes);
}

static int on_call(void *user, const tvm_flow_kernel_call *call) {
  (void)user;
  if (put_header(KIND_CALL, call->step, call->branch, call->call, call->num_args, call->kernel)) return 1;
  for (uint32_t i = 0; i < call->num_args; i++)
    if (put_tensor(&call->args[i])) return 1;
  return 0;
}

static int on_step(void *user, uint32_t done, uint32_t steps) {
  (void)user, (void)steps;
  return put_header(KIND_STEP, done - 1, 0, 0, 0, "") || fflush(stdout);
}

/* golden.bin: noise, tokens and mask of both branches; its length was checked when it was packed. */
static const float *map_golden(const char *bundle, uint64_t *floats) {
  char path[4096];
  struct stat status;
  int length = snprintf(path, sizeof path, "%s/golden.bin", bundle);
  int file = length > 0 && (size_t)length < sizeof path ? open(path, O_RDONLY) : -1;
  if (file < 0 || fstat(file, &status) != 0) return NULL;
  void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  *floats = (uint64_t)status.st_size / sizeof(float);
  return data == MAP_FAILED ? NULL : data;
}

static int generate(tvm_flow *flow, const float *golden, tvm_flow_error *error) {
  tvm_flow_description d;
  tvm_flow_describe(flow, &d);
  const uint64_t text = (uint64_t)d.text_tokens * d.text_channels;
  const float *cond = golden + d.latent_floats, *uncond = cond + text + d.text_tokens;
  const tvm_flow_request request = {
      .noise = golden, .cond = {cond, cond + text}, .uncond = {uncond, uncond + text}};
  const int64_t shape[] = {(int64_t)d.latent_floats};
  float *latents = malloc(d.latent_floats * sizeof *latents);
  if (!latents) return failed("no memory for latents");
  const tvm_flow_view view = {latents, shape, 1, 2, 32};
  int code = tvm_flow_generate(flow, &request, latents, on_step, NULL, error) != TVM_FLOW_OK;
  if (code) failed(error->message);
  else if (put_header(KIND_RESULT, d.steps, 0, 0, 1, "") || put_tensor(&view) || fflush(stdout))
    code = failed("could not write the latents");
  free(latents);
  return code;
}

static int decode(const tvm_flow_options *options, const char *bundle, const float *golden, uint64_t floats,
                  tvm_flow_error *error) {
  tvm_flow_decoder *decoder;
  tvm_flow_decoder_description d;
  if (tvm_flow_decoder_open(bundle, options, &decoder, error)) return failed(error->message);
  tvm_flow_decoder_describe(decoder, &d);
  tvm_flow_decoder_set_trace(decoder, on_call, NULL);
  const int64_t shape[] = {(int64_t)d.frame_values};
  float *frames = malloc(d.frame_values * sizeof *frames);
  if (!frames) return failed("no memory for frames");
  const tvm_flow_view view = {frames, shape, 1, 2, 32};
  int code = tvm_flow_decode(decoder, golden + floats - d.latent_floats, frames, error) != TVM_FLOW_OK;
  if (code) failed(error->message);
  else if (put_header(KIND_RESULT, 0, 0, 0, 1, "") || put_tensor(&view) || fflush(stdout))
    code = failed("could not write the frames");
  free(frames);
  tvm_flow_decoder_close(decoder);
  return code;
}

int main(int argc, char **argv) {
  tvm_flow *flow;
  tvm_flow_error error;
  uint64_t floats = 0;
  if (argc != 4) return failed("usage: trace BUNDLE THREADS generate|decode");
  const tvm_flow_options options = {.struct_bytes = sizeof options,
                                    .threads = (uint32_t)strtoul(argv[2], NULL, 10),
                                    .num_linked = tvm_flow_num_linked_groups,
                                    .linked = tvm_flow_linked_groups};
  const float *golden = map_golden(argv[1], &floats);
  if (!golden) return failed("golden.bin: could not be read");
  if (strcmp(argv[3], "decode") == 0) return decode(&options, argv[1], golden, floats, &error);
  if (tvm_flow_open(argv[1], &options, &flow, &error)) return failed(error.message);
  tvm_flow_set_trace(flow, on_call, NULL);
  int code = generate(flow, golden, &error);
  tvm_flow_close(flow);
  return code;
}
