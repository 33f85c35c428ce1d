/* A run of a bundle's golden input as a stream of records: for trace.c, a program, and board_check.c, on a board.
 *
 * Records are in the byte order of the target (little endian):
 *
 *   uint32 kind, step, branch, call, tensors, name_bytes;  char name[name_bytes];  then each tensor:
 *   uint8 dtype_code, dtype_bits;  uint16 ndim;  uint32 0;  int64 shape[8], 0 past ndim;  the elements, row-major
 *
 *   kind 0  a kernel call: its name and arguments, the last one written by it
 *   kind 1  step `step` is done: no tensor
 *   kind 2  the end: the latents or frames, flat
 *
 * The parts of a run: generate; decode, frames of the golden latents; time, as generate, but a call has two tensors:
 * when it began and ended and what the device's own clock said (-1 for none), int64 [3] in ns, and the device's name,
 * uint8; verify, the golden output bit for bit, and the frames if the bundle has a decoder, calls as for time, and an
 * end without a tensor.
 * tvm_flow.check.call_stream reads it.
 */
#ifndef TVM_FLOW_TRACE_RECORDS_H
#define TVM_FLOW_TRACE_RECORDS_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tvm_flow_decoder.h"
#include "tvm_flow_library.h"
#include "tvm_flow_trace.h"

enum { KIND_CALL = 0, KIND_STEP = 1, KIND_RESULT = 2 };

static FILE *trace_to;
static tvm_flow_error trace_error; /* why `trace_run` failed */

static int failed(const char *message) {
  snprintf(trace_error.message, sizeof trace_error.message, "%s", message);
  return 1;
}

static int put(const void *data, size_t bytes) { return fwrite(data, 1, bytes, trace_to) != bytes; }

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
  return put_header(KIND_STEP, done - 1, 0, 0, 0, "") || fflush(trace_to);
}

static int on_time(void *user, const tvm_flow_kernel_call *call) {
  (void)user;
  const int64_t times[] = {(int64_t)call->started_ns, (int64_t)call->ended_ns, (int64_t)call->device_ns};
  const int64_t count = sizeof times / sizeof *times, letters = (int64_t)strlen(call->device);
  const tvm_flow_view of_times = {times, &count, 1, 0, 64}, of_name = {call->device, &letters, 1, 1, 8};
  return put_header(KIND_CALL, call->step, call->branch, call->call, 2, call->kernel) || put_tensor(&of_times) ||
         put_tensor(&of_name);
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

/* The end, and what it gives if anything: `count` floats, which are freed. */
static int put_result(float *values, uint64_t count) {
  const int64_t shape[] = {(int64_t)count};
  const tvm_flow_view view = {values, shape, 1, 2, 32};
  const int code =
      put_header(KIND_RESULT, 0, 0, 0, values != NULL, "") || (values && put_tensor(&view)) || fflush(trace_to);
  free(values);
  return code ? failed("could not write the result") : 0;
}

static int generate(tvm_flow *flow, const float *golden) {
  tvm_flow_description d;
  tvm_flow_describe(flow, &d);
  const uint64_t text = (uint64_t)d.text_tokens * d.text_channels;
  const float *cond = golden + d.latent_floats, *uncond = cond + text + d.text_tokens;
  const tvm_flow_request request = {
      .noise = golden, .cond = {cond, cond + text}, .uncond = {uncond, uncond + text}};
  float *latents = malloc(d.latent_floats * sizeof *latents);
  if (!latents) return failed("no memory for latents");
  if (!tvm_flow_generate(flow, &request, latents, on_step, NULL, &trace_error))
    return put_result(latents, d.latent_floats);
  free(latents);
  return 1;
}

static int decode(tvm_flow_decoder *decoder, const float *golden, uint64_t floats) {
  tvm_flow_decoder_description d;
  tvm_flow_decoder_describe(decoder, &d);
  float *frames = malloc(d.frame_values * sizeof *frames);
  if (!frames) return failed("no memory for frames");
  if (!tvm_flow_decode(decoder, golden + floats - d.latent_floats, frames, &trace_error))
    return put_result(frames, d.frame_values);
  free(frames);
  return 1;
}

/* With golden the frames of its latents, else whether they are those of the bundle. */
static int run_decoder(const char *bundle, const tvm_flow_options *options, const float *golden, uint64_t floats) {
  tvm_flow_decoder *decoder;
  if (tvm_flow_decoder_open(bundle, options, &decoder, &trace_error)) return 1;
  tvm_flow_decoder_set_trace(decoder, golden ? on_call : on_time, NULL);
  const int code = golden ? decode(decoder, golden, floats) : tvm_flow_decoder_verify(decoder, &trace_error) != 0;
  tvm_flow_decoder_close(decoder);
  return code;
}

static int verify(tvm_flow *flow, const char *bundle, const tvm_flow_options *options) {
  char path[4096];
  snprintf(path, sizeof path, "%s/decoder.bin", bundle);
  if (tvm_flow_verify(flow, &trace_error)) return 1;
  if (access(path, R_OK) == 0 && run_decoder(bundle, options, NULL, 0)) return 1;
  return put_result(NULL, 0);
}

/* Writes the records of `part` to `trace_to`; 1 with `trace_error` when that fails. */
static int trace_run(const char *bundle, const char *part, const tvm_flow_options *options) {
  tvm_flow *flow;
  uint64_t floats = 0;
  const float *golden = map_golden(bundle, &floats);
  if (!golden) return failed("golden.bin: could not be read");
  if (strcmp(part, "decode") == 0) return run_decoder(bundle, options, golden, floats);
  if (tvm_flow_open(bundle, options, &flow, &trace_error)) return 1;
  tvm_flow_set_trace(flow, strcmp(part, "generate") == 0 ? on_call : on_time, NULL);
  const int code = strcmp(part, "verify") == 0 ? verify(flow, bundle, options) : generate(flow, golden);
  tvm_flow_close(flow);
  return code;
}

#endif
